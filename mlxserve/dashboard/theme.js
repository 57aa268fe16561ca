// The switch between the system's look, the light one and the dark one. look.js applies it before the first paint.
import { byId } from "./dom.js";
import { icon } from "./icons.js";
import { keep, kept } from "./storage.js";

const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const current = () => (["light", "dark"].includes(kept("theme")) ? kept("theme") : "system");

/** The looks in the order of the switch: from the system's first to the other one, so that it is seen to work. */
const looks = () => (darkSystem.matches ? ["system", "light", "dark"] : ["system", "dark", "light"]);

/** Begins to listen to the switch; `changed` is called whenever the look is another. */
export function startTheme(changed) {
  const button = byId("theme");
  const show = () => {
    const look = current();
    const next = looks()[(looks().indexOf(look) + 1) % 3];
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
  darkSystem.addEventListener("change", () => {
    show();
    changed();
  });
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
