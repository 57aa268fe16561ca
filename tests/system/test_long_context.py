"""A prompt of 32k tokens through two ranks: answered as by one, in the memory that was foreseen."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import openai
import pytest

from tests.system.server import Server
from tests.system.small_model import start_small, write_small_model

Own = Callable[[Server], Server]
TRAINED, FACTOR = 8192, 5.0
CONTEXT = int(TRAINED * FACTOR)
WIDTH = 64
SHAPE = {
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": WIDTH,
    "max_position_embeddings": TRAINED,
    "rope_scaling": {"type": "yarn", "factor": FACTOR, "original_max_position_embeddings": TRAINED},
}
TOKEN_BYTES = 2 * WIDTH * 4
"""A rank's one layer keeps a key and a value, in float32."""
PROMPT = [10 + index * index % 311 for index in range(32_768)]
TOKENS = 12
KV_BYTES = 20_000_000
"""A little more than the prompt takes on each rank."""
FIGURES_SECONDS = 10.0
ROUNDED_GB = 0.006
"""What /health leaves out, and what the weights take."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_model(tmp_path_factory.mktemp("long") / "model", **SHAPE))


def written_by(server: Server, prompt: list[int]) -> str:
    answer = server.client().completions.create(model="any", prompt=prompt, temperature=0, max_tokens=TOKENS)
    assert answer.usage
    assert answer.usage.prompt_tokens == len(prompt)
    return answer.choices[0].text


def test_32k_tokens_are_read_by_two_ranks_as_by_one_in_the_memory_that_was_foreseen(own: Own, model: str) -> None:
    alone = own(start_small(1, model))
    assert alone.wait_until("healthy")["context_length"] == CONTEXT
    expected = written_by(alone, PROMPT)
    alone.close()

    server = own(start_small(2, model, "--kv-cache-bytes", str(KV_BYTES), "--prefix-cache-bytes", "100MB"))
    fitting = server.wait_until("healthy")["context_length"]
    assert len(PROMPT) + TOKENS < fitting < KV_BYTES / TOKEN_BYTES < CONTEXT
    assert written_by(server, PROMPT) == expected
    with pytest.raises(openai.BadRequestError, match=f"holds {fitting} tokens"):
        written_by(server, PROMPT + PROMPT[: fitting - len(PROMPT)])

    foreseen = len(PROMPT) * TOKEN_BYTES
    wait_until_kept(server, foreseen)


def wait_until_kept(server: Server, size: int) -> None:
    """Wait until each rank, which tells its figures once a second, holds about `size` bytes, all of them prefixes."""
    prefixes, memory = pytest.approx([size] * 2, rel=0.01), pytest.approx([size / 1e9] * 2, abs=ROUNDED_GB)
    end = time.monotonic() + FIGURES_SECONDS
    while True:
        kept = [rank["memory"]["prefix"] for rank in httpx.get(f"{server.url}/traffic").json()["ranks"]]
        taken = [rank["memory_gb"] for rank in server.health()["ranks"]]
        if kept == prefixes and taken == memory:
            return
        assert time.monotonic() < end, f"{kept} bytes of prefixes in {taken} GB instead of {size} bytes"
        time.sleep(0.1)


def test_a_context_that_the_model_was_not_trained_for_is_given_where_it_is_asked_for_with_a_warning(
    own: Own, model: str
) -> None:
    server = own(start_small(1, model, "--ctx-size", "50000"))
    assert server.wait_until("healthy")["context_length"] == 50_000
    assert f"--ctx-size 50000 is more than the {CONTEXT} tokens that the model is made for" in server.output
