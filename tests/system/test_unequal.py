"""Machines that are not alike, and many of them: layers go where there is room, and the text stays the same."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from tests.system.server import Server, kill_all
from tests.system.small_model import start_small, write_small_model

Own = Callable[[Server], Server]
LAYERS = 16
SHAPE = {"num_hidden_layers": LAYERS, "hidden_size": 256, "intermediate_size": 512, "tie_word_embeddings": True}
"""29 MB, nearly all of it in the layers."""
LIMITS = (9, 27)
"""In MB: both together are a little more than the model."""
PROMPT = list(range(10, 60))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_model(tmp_path_factory.mktemp("small") / "model", **SHAPE))


@pytest.fixture(scope="module")
def text(model: str) -> str:
    """What one rank writes."""
    server = start_small(1, model)
    try:
        server.wait_until("healthy")
        return written_by(server)
    finally:
        server.close()


def written_by(server: Server) -> str:
    answer = server.client().completions.create(model="any", prompt=PROMPT, temperature=0, max_tokens=24)
    return answer.choices[0].text


def layers(server: Server) -> list[list[int]]:
    """First and last of each rank."""
    return [rank["layers"] for rank in server.health()["ranks"]]


def test_ranks_with_one_and_three_parts_of_memory_get_one_and_three_parts_of_the_layers(
    own: Own, model: str, text: str
) -> None:
    server = own(start_small(2, model, "--memory-limit", ",".join(f"{limit}MB" for limit in LIMITS)))
    health = server.wait_until("healthy")
    assert layers(server) == [[0, 3], [4, 15]]
    assert written_by(server) == text
    for rank, limit in zip(httpx.get(f"{server.url}/traffic").json()["ranks"], LIMITS, strict=True):
        memory = rank["memory"]
        assert 0.7 * limit * 1e6 < sum(memory[part] for part in ("weights", "kv", "prefix")) <= limit * 1e6
    assert health["ranks"][1]["expected_ms"] > 2 * health["ranks"][0]["expected_ms"] > 0

    kill_all(server.pids_of("engine"))
    server.wait_until("recovering")
    server.wait_until("healthy")
    assert layers(server) == [[0, 3], [4, 15]]
    assert written_by(server) == text


def test_what_no_split_has_room_for_is_refused(own: Own, model: str) -> None:
    server = own(start_small(2, model, "--memory-limit", "10MB"))
    assert server.exit_code(60) == 2
    assert re.search(r"rank \d: the weights of its \d layers take 14\.\d MB, but 9\.\d MB of memory", server.output)
    assert "machines like this must be at least 4" in server.output


@pytest.mark.parametrize("ranks", [4, 8])
def test_many_ranks_on_one_machine_form_share_the_layers_and_answer(
    own: Own, model: str, text: str, ranks: int
) -> None:
    server = own(start_small(ranks, model))
    server.wait_until("healthy", timeout=180)
    each = LAYERS // ranks
    assert layers(server) == [[rank * each, rank * each + each - 1] for rank in range(ranks)]
    assert written_by(server) == text
