// Asks the server from time to time: only while the page is seen, and only for what is on screen.
import { get } from "./api.js";
import { isLocked } from "./keys.js";
import { hear, server } from "./server.js";

const BEAT = 2000; // milliseconds
const DAY_BEAT = 60000;
const HEALTH_BEAT = { alone: 4000, beside: 10000 };

let shown = { section: "cluster", day: false };
let last = { health: 0, day: 0 };
let settled = -1;
let due = true;
let wake = () => {};

/** Told which section is on screen, and whether the day is. */
export function watch(section, day) {
  shown = { section, day };
  settled = -1;
  hurry();
}

/** Ask now. */
export function askNow() {
  last = { health: 0, day: 0 };
  settled = -1;
  hurry();
}

function hurry() {
  due = true;
  wake();
}

/** Goes on for as long as the page is open. */
export async function startPulse() {
  document.addEventListener("visibilitychange", hurry);
  for (;;) {
    while (document.hidden) await pause(2 ** 31 - 1);
    due = false;
    hear(await news());
    if (!due) await pause(BEAT);
  }
}

const pause = (milliseconds) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });

async function news() {
  try {
    const heard = await askTraffic();
    const report = await askHealth(heard);
    const standing = heard.traffic?.status ?? report.health ?? server.standing;
    return { ...heard, ...report, standing, lostSince: 0 };
  } catch {
    last.health = 0;
    return { lostSince: server.lostSince || Date.now() / 1000, traffic: null };
  }
}

async function askTraffic() {
  if (!["cluster", "traffic"].includes(shown.section) || isLocked()) return {};
  const withDay = shown.day && Date.now() - last.day > DAY_BEAT;
  const traffic = await unlessRefused(`/traffic?day=${withDay ? 1 : 0}`);
  if (withDay && traffic) last.day = Date.now();
  const day = traffic?.day ? { day: traffic.day } : {};
  return { traffic, ...day, ...(shown.section === "traffic" && traffic ? await askRequests(traffic) : {}) };
}

/** Not asked for again while nothing is open and nothing has ended. */
async function askRequests(traffic) {
  const busy = traffic.running + traffic.waiting > 0;
  if (!busy && settled === traffic.totals.requests) return {};
  const requests = await unlessRefused("/requests");
  settled = busy || requests?.open.length ? -1 : traffic.totals.requests;
  return requests ? { requests } : {};
}

/** Seldom while /traffic tells the state, too. */
async function askHealth({ traffic }) {
  const changed = traffic && traffic.status.status !== server.health?.status;
  const recent = Date.now() - last.health < (traffic ? HEALTH_BEAT.beside : HEALTH_BEAT.alone) - 100;
  if (recent && !changed && server.health) return {};
  const health = await get("/health");
  last.health = Date.now();
  return { health };
}

/** Null where the server answers, but not this: no key, or it is not ready. */
async function unlessRefused(path) {
  try {
    return await get(path);
  } catch (error) {
    if (error.status) return null;
    throw error;
  }
}
