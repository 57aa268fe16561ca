// What this page knows of the server. Views read it, and are told when it has changed.

export const server = {
  /** The latest /health, or null. */
  health: null,
  /** The latest /traffic, or null: none yet, or no key. */
  traffic: null,
  /** The latest day of /traffic, or null. */
  day: null,
  /** The latest /requests, or null. */
  requests: null,
  /** The state as it was told last: `{ status, reason, since }`, or null. */
  standing: null,
  /** Unix seconds since when the server does not answer; 0 while it does. */
  lostSince: 0,
};

const listeners = new Set();

/** Calls `listener` after each change. */
export const onServer = (listener) => listeners.add(listener);

/** Takes in what was heard. A view that fails is reported in the console, and stops neither the others nor the asking. */
export function hear(news) {
  Object.assign(server, news);
  for (const listener of listeners) {
    try {
      listener();
    } catch (error) {
      reportError(error);
    }
  }
}

/** The state, its reason, and since when (Unix seconds). */
export function state() {
  if (server.lostSince) return { status: "unreachable", reason: "", since: server.lostSince };
  return server.standing ?? { status: "connecting", reason: "", since: 0 };
}

/** The model's name. */
export const model = () => server.health?.model ?? "default";

/** The ranks; from /health, with less to tell, while there is no /traffic. */
export function ranks() {
  if (server.traffic) return server.traffic.ranks;
  return (server.health?.ranks ?? []).map((rank) => ({ ...rank, memory: null, link: null, progress: "" }));
}

/** How many ranks were planned. */
export const worldSize = () => Math.max(server.health?.world_size ?? 0, ranks().length);

/** The number of the model's layers, 0 while unknown. */
export const layerCount = () => server.traffic?.layers || server.health?.layers || Math.max(0, ...ranks().map((rank) => rank.layers[1] + 1));

/** Whether each rank has a share of every layer, not whole ones. */
export const sharesLayers = () => server.health?.parallel === "tensor";

/** The state of one rank. */
export function rankStatus(rank) {
  const { status } = state();
  if (rank.progress === "missing") return "missing";
  if (["unreachable", "recovering", "connecting"].includes(status)) return status;
  if (rank.progress) return "loading";
  if (status === "degraded") return server.health?.serving ? "active" : "degraded";
  if (status === "loading") return "loading";
  return "active";
}
