// Sections by the address's hash: #cluster, #traffic/day, #chat/<conversation>, #connect/<client>.
import { byId } from "./dom.js";

const SECTIONS = { cluster: "Cluster", traffic: "Traffic", chat: "Chat", connect: "Connect" };

/** Where the address points: the section and what follows it. */
export function place() {
  const [section, ...rest] = location.hash.slice(1).split("/");
  return { section: Object.hasOwn(SECTIONS, section) ? section : "cluster", rest: rest.join("/") };
}

/** Shows the section, and tells `arrived(section, rest)`; so again whenever the address changes. */
export function startRouter(arrived) {
  const arrive = () => {
    const { section, rest } = place();
    document.body.dataset.section = section;
    for (const name of Object.keys(SECTIONS)) byId(`view-${name}`).hidden = name !== section;
    for (const tab of document.querySelectorAll("[data-tab]")) {
      if (tab.dataset.tab === section) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    document.title = `${SECTIONS[section]} · mlxserve`;
    arrived(section, rest);
  };
  addEventListener("hashchange", arrive);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  arrive();
}
