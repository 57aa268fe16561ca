// The switch between the system's look, the light one and the dark one. look.js applies it before the first paint.
import { byId } from "./dom.js";
import { icon } from "./icons.js";
import { keep, kept } from "./storage.js";

const LOOKS = ["system", "light", "dark"];
const current = () => (LOOKS.includes(kept("theme")) ? kept("theme") : "system");

/** Begins to listen to the switch; `changed` is called whenever the look is another. */
export function startTheme(changed) {
  const button = byId("theme");
  const show = () => {
    const look = current();
    const next = LOOKS[(LOOKS.indexOf(look) + 1) % LOOKS.length];
    document.documentElement.dataset.theme = look;
    button.replaceChildren(icon(look));
    button.setAttribute("aria-label", `Look: ${look}. Switch to ${next}`);
    button.title = `Look: ${look}`;
    button.dataset.next = next;
  };
  button.addEventListener("click", () => {
    keep("theme", button.dataset.next);
    show();
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show();
}

/** The colour that `variable` has in the look of now, as a canvas takes it. */
export function colour(variable) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${variable})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
