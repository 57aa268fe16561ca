// Numbers as people read them.

export const NONE = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 0.42, 4.2, 42, 4,200 */
export function number(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A rate: 0, 4.2, 42.1, 4,200 */
export function rate(value) {
  if (!known(value)) return NONE;
  const digits = Math.abs(value) >= 100 ? 0 : 1;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export const count = (value) => (known(value) ? Math.round(value).toLocaleString("en") : NONE);

/** 950, 12.3k, 4.56M */
export function compact(value) {
  if (!known(value)) return NONE;
  return value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
}

/** A share from 0 to 1 as per cent. */
export const share = (value) => (known(value) ? `${(value * 100).toFixed(value < 0.0995 && value > 0 ? 1 : 0)} %` : NONE);

/** Bytes in powers of 1000, as memory is sold and /health counts it. */
export function bytes(value) {
  if (!known(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (Math.abs(value) >= 999.5 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${step && Math.abs(value) < 10 ? value.toFixed(2) : step && Math.abs(value) < 100 ? value.toFixed(1) : value.toFixed(0)} ${units[step]}`;
}

/** Seconds, however few or many: 320 µs, 21 ms, 1.4 s, 3 min 12 s, 2 h 5 min, 4 d 3 h */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds === 0) return "0 s";
  if (seconds < 0.0009995) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.9995) return `${(seconds * 1e3).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  return long(Math.round(seconds));
}

function long(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  return parts
    .slice(first, first + 2)
    .map(([size, unit], index) => [Math.floor((index ? seconds % parts[first][0] : seconds) / size), unit])
    .filter(([amount], index) => amount || !index)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

/** How long ago `unix` was, to the second or coarser. */
export function ago(unix, now = Date.now() / 1000) {
  const seconds = Math.max(0, Math.floor(now - unix));
  return seconds < 60 ? `${seconds} s` : long(seconds);
}

/** The time of day of `unix`. */
export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");
