"use strict";

const INTERVAL = 2000; // milliseconds

function put(id, text) {
  document.getElementById(id).textContent = text;
}

function showStatus(status, reason) {
  const element = document.getElementById("status");
  element.textContent = status;
  element.className = `status ${status}`;
  put("reason", reason);
}

function row(rank) {
  const cells = [
    rank.rank,
    rank.host,
    rank.device,
    `${rank.layers[0]}–${rank.layers[1]}`,
    `${rank.memory_gb.toFixed(2)} GB`,
    rank.tokens_per_second.toFixed(1),
  ];
  const line = document.createElement("tr");
  for (const text of cells) {
    line.insertCell().textContent = text;
  }
  return line;
}

function show(health) {
  showStatus(health.status, health.reason);
  put("model", health.model);
  put("world", health.distributed ? `${health.world_size}, pipeline by ${health.pipeline}` : "1, this machine alone");
  put("open", health.open_requests);
  document.getElementById("ranks").replaceChildren(...health.ranks.map(row));
  const body = { model: health.model, messages: [{ role: "user", content: "What is the capital of France?" }] };
  put("curl", `curl ${location.origin}/v1/chat/completions \\
  -H 'Content-Type: application/json' \\
  -d '${JSON.stringify(body)}'`);
}

async function refresh() {
  try {
    const answer = await fetch("/health", { cache: "no-store" });
    show(await answer.json());
  } catch {
    showStatus("unreachable", "the server does not answer");
  }
  setTimeout(refresh, INTERVAL);
}

put("base", `${location.origin}/v1`);
refresh();
