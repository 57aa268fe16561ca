// What the browser keeps, where it may. Everything of ours begins with "mlxserve.".

/** What is kept as `name` in `area`, or null. */
export function kept(name, area = "localStorage") {
  try {
    return window[area].getItem(`mlxserve.${name}`);
  } catch {
    return null;
  }
}

/** Keeps `text`, or forgets it where it is null; says whether that was possible. */
export function keep(name, text, area = "localStorage") {
  try {
    if (text === null) window[area].removeItem(`mlxserve.${name}`);
    else window[area].setItem(`mlxserve.${name}`, text);
    return true;
  } catch {
    return false;
  }
}

/** What is kept as JSON, or `otherwise`. */
export function keptValue(name, otherwise = null) {
  try {
    return JSON.parse(kept(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const keepValue = (name, value) => keep(name, JSON.stringify(value));
