"""The main job: a question to one model over several ranks, by the official client."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.conftest import Shared
from tests.ports import free_port
from tests.system.server import MLX_LAUNCH, MLXSERVE, Server

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def ask_streamed(server: Server) -> str:
    chunks = server.client().chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, max_tokens=20, stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_capital_of_france_is_streamed(shared: Shared, ranks: int) -> None:
    assert ask_streamed(shared(ranks)) == "The capital of France is Paris."


def test_it_serves_under_mlx_launch(own: Callable[[Server], Server]) -> None:
    port, ring = free_port(), free_port()
    server = own(
        Server(
            [MLX_LAUNCH, "-n", "2", "-p", str(ring), "--", MLXSERVE, "serve", "--model", "demo", "--port", str(port)],
            port,
        )
    )
    assert server.wait_until("healthy")["world_size"] == 2
    assert ask_streamed(server) == "The capital of France is Paris."


def test_health_shows_every_rank(shared: Shared) -> None:
    server = shared(2)
    health = server.health()
    assert health["status"] == "healthy"
    assert (health["rank"], health["world_size"], health["model"]) == (0, 2, "demo")
    assert (health["pipeline"], health["distributed"]) == ("allreduce", True)
    first, second = health["ranks"]
    assert first["layers"][0] == 0
    assert second["layers"] == [first["layers"][1] + 1, 29]
    assert {first["host"], second["host"]} != {""}
    assert health["gpu_memory_gb"] == first["memory_gb"] > 0


def test_each_rank_holds_its_own_layers_only(shared: Shared, plain: Server) -> None:
    """Those of the servers that have stored prefixes meanwhile hold these, too."""
    alone = shared(1).health()["ranks"][0]["memory_gb"]
    parts = [rank["memory_gb"] for rank in plain.health()["ranks"]]
    assert sum(parts) <= 1.1 * alone
    assert max(parts) < 0.75 * alone


def test_a_client_that_leaves_frees_the_engine_for_the_next(shared: Shared) -> None:
    server = shared(2)
    body = {"messages": QUESTION, "max_tokens": 2000, "stream": True, "temperature": 1.0}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=30) as answer:
        next(answer.iter_lines())
    assert ask_streamed(server) == "The capital of France is Paris."
    assert server.health()["open_requests"] == 0
