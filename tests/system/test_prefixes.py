"""What was read before is not read again, and the text stays as it would be: by every API, and after a restart."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from mlxserve.engine.prefix import FEWEST_NEW
from tests.conftest import Shared
from tests.system.question import Question, ask, is_right
from tests.system.server import Server, start

STORY = (
    "The {0} stood at the end of the harbour, where the fishermen mended their nets every morning. An old keeper, "
    "whose name nobody remembered, swept its steps and counted the boats that came home. One evening, after a storm, "
    "he found a green bottle between the rocks, and in it a letter that began with his own name. "
)
TOKENS = 10
MOST_IN_COMMON = 40
"""Tokens of the template that every chat begins with."""


def story(subject: str) -> str:
    """A long beginning, of its own for each `subject`."""
    return f"{subject}: " + STORY.format(subject) * 3


def chat(server: Server, prompt: str) -> tuple[str, int, int]:
    answer = server.client().chat.completions.create(
        model="demo", messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=TOKENS
    )
    assert answer.usage
    assert answer.usage.prompt_tokens_details
    assert answer.to_dict()["timings"]["cache_n"] == answer.usage.prompt_tokens_details.cached_tokens  # type: ignore[index]
    return _found(answer.choices[0].message.content, answer.usage)


def streamed(server: Server, prompt: str) -> tuple[str, int, int]:
    answer = ask(server, Question(prompt, TOKENS))
    return _found(answer.text, answer.usage)


def completion(server: Server, prompt: str) -> tuple[str, int, int]:
    answer = server.client().completions.create(model="demo", prompt=prompt, temperature=0, max_tokens=TOKENS)
    return _found(answer.choices[0].text, answer.usage)


def message(server: Server, prompt: str) -> tuple[str, int, int]:
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    answer = client.messages.create(
        model="demo",
        messages=[{"role": "user", "content": prompt}],
        max_tokens=TOKENS,
        extra_body={"temperature": 0},
    )
    (block,) = answer.content
    assert isinstance(block, anthropic.types.TextBlock)
    cached = answer.usage.cache_read_input_tokens or 0
    return block.text, cached, cached + answer.usage.input_tokens


def _found(text: str | None, usage: Any) -> tuple[str, int, int]:
    return text or "", usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens


@pytest.mark.parametrize("asked", [chat, streamed, completion, message])
def test_a_beginning_seen_before_is_not_read_again(
    shared: Shared, plain: Server, asked: Callable[[Server, str], tuple[str, int, int]]
) -> None:
    server = shared(2)
    beginning = story(f"lighthouse of the {asked.__name__}")
    first, second = f"{beginning}Who wrote the letter?", f"{beginning}What did the keeper do next?"
    _, cached, prompt = asked(server, first)
    assert cached <= MOST_IN_COMMON
    text, cached, _ = asked(server, second)
    assert prompt - 30 <= cached < prompt
    again, cached, prompt = asked(server, second)
    assert prompt - FEWEST_NEW <= cached < prompt
    assert asked(plain, second) == (text, 0, prompt)
    assert again == text


def test_without_room_for_prefixes_all_is_read_again(plain: Server) -> None:
    question = Question(story("windmill"), 1)
    assert [ask(plain, question).cached for _ in range(2)] == [0, 0]


def test_each_turn_of_a_conversation_begins_with_all_before(shared: Shared) -> None:
    client = shared(2).client()
    messages: list[Any] = []
    known = 0
    for said in ["Name a fruit.", "Name another.", "Which of them is sweeter?", "Why?", "Thank you."]:
        messages.append({"role": "user", "content": said})
        answer = client.chat.completions.create(model="demo", messages=messages, temperature=0, max_tokens=24)
        assert answer.usage
        assert answer.usage.prompt_tokens_details
        cached = answer.usage.prompt_tokens_details.cached_tokens
        assert cached is not None
        assert cached >= known
        known = answer.usage.prompt_tokens + answer.usage.completion_tokens - 1  # its last token is never read
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})


def test_prefixes_outlive_a_restart_and_a_damaged_file_is_left_out(
    own: Callable[[Server], Server], plain: Server, tmp_path: Path
) -> None:
    first, second = (Question(f"{story('bridge')}{end}", TOKENS) for end in ("Who wrote it?", "What did he do next?"))
    expected = ask(plain, second)

    def serving() -> Server:
        server = own(start(2, "--prefix-cache-dir", str(tmp_path)))
        server.wait_until("healthy")
        return server

    def end(server: Server) -> None:
        server.process.send_signal(signal.SIGINT)
        server.wait_until_gone(30)

    server = serving()
    known = ask(server, first).usage.prompt_tokens
    wait_for_index(tmp_path)
    end(server)

    server = serving()
    found = ask(server, second)
    assert known - 30 <= found.cached < known
    assert is_right(second, expected, found)
    end(server)

    damaged = hold_the_beginning(tmp_path)
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-1000])
    server = serving()
    assert all(str(path) in server.output for path in damaged)
    found = ask(server, second)
    assert found.cached < known - 30
    assert is_right(second, expected, found)


def hold_the_beginning(folder: Path) -> list[Path]:
    """Rank 1's segments with most of a story: two where the server's end came while one was being split."""
    sizes = {path: path.stat().st_size for path in folder.glob("*-rank1-*/*.segment")}
    return [path for path, size in sizes.items() if size > max(sizes.values()) / 2]


def wait_for_index(folder: Path) -> None:
    """It is written last, once nothing is left to do; rank 1 may be a little behind rank 0."""

    def kept(rank: int) -> set[str]:
        return {path.name for path in folder.glob(f"*-rank{rank}-*/*")}

    deadline = time.monotonic() + 30
    while "index" not in kept(0) or kept(0) - kept(1) != {"index"}:
        assert time.monotonic() < deadline, "no prefix was kept"
        time.sleep(0.02)
