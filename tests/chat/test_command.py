"""`mlxserve chat` as a user runs it: in a terminal, with a flag, in a pipe."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxserve.engine.messages import NewToken, Step

from ..api.scripted_engine import ScriptedEngine
from ..bench_tool.conftest import Rough, chunk, sse

pytestmark = pytest.mark.anyio

TOKEN, TEXT = 65, "_"
PROMPT = ">"
ENTER, CTRL_C, CTRL_D, ALT_ENTER, UP = "\r", "\x03", "\x04", "\x1b\r", "\x1b[A"
MODELS = sse(b'{"data": [{"id": "tiny"}]}', kind="application/json")
Chat = Callable[..., Any]


async def piped(*words: str, typed: str = "") -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mlxserve", "chat", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(typed.encode())
    return process.returncode, out.decode(), err.decode()


def asked(requests: list[bytes], *events: bytes) -> Callable[[bytes], bytes]:
    """A server of one model that notes down what chats it is asked for, and answers all with `events`."""

    def answer(request: bytes) -> bytes:
        if request.startswith(b"GET"):
            return MODELS
        requests.append(request)
        return sse(*events)

    return answer


def body(request: bytes) -> dict[str, Any]:
    return dict(json.loads(request[request.index(b"{") :]))


async def test_what_is_piped_in_is_answered_on_stdout_alone(base: str, engine: ScriptedEngine) -> None:
    engine.script = [TOKEN] * 3
    assert await piped(base, typed="What is this?\n") == (0, f"{TEXT * 3}\n", "")


async def test_a_question_in_a_flag_is_asked_with_its_settings(rough: Rough) -> None:
    requests: list[bytes] = []
    address = rough(asked(requests, chunk("Paris."), b"data: [DONE]\n\n"))
    flags = ("--system", "Be brief.", "--temperature", "0", "--max-tokens", "9", "--seed", "3", "--api-key", "secret")
    assert await piped(f"{address}/v1", "--question", "Capital?", *flags) == (0, "Paris.\n", "")
    (request,) = requests
    assert b"Authorization: Bearer secret\r\n" in request
    sent = body(request)
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital?"}]
    assert [sent[name] for name in ("model", "temperature", "max_tokens", "seed")] == ["tiny", 0.0, 9, 3]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sse(b'{"error": {"message": "too long"}}', status="400 Bad Request", kind="application/json"), "too long"),
        (sse(chunk("a"), b'data: {"error": {"message": "the engine is gone"}}\n\n'), "the engine is gone"),
        (sse(b"data: {broken\n\n"), "no event of a chat"),
        (b"nonsense\r\n\r\n", "broken HTTP"),
    ],
)
async def test_what_goes_wrong_is_told_in_a_sentence(rough: Rough, answer: bytes, told: str) -> None:
    address = rough(lambda request: MODELS if request.startswith(b"GET") else answer)
    code, _, err = await piped(address, "--question", "x")
    assert code == 2
    assert told in err
    assert err.startswith("mlxserve: error: ")


async def test_nothing_piped_in_is_told(base: str) -> None:
    code, out, err = await piped(base)
    assert (code, out) == (2, "")
    assert "nothing is asked" in err


async def test_a_conversation_remembers_what_was_said(chat: Chat, rough: Rough) -> None:
    requests: list[bytes] = []
    terminal = await chat(rough(asked(requests, chunk("Hello."), b"data: [DONE]\n\n")))
    await terminal.shows("chatting with tiny")
    await terminal.shows(PROMPT)
    for question in ("one", f"two{ALT_ENTER}lines"):
        terminal.type(question + ENTER)
        await terminal.shows("Hello.")
        await terminal.shows(PROMPT)
    terminal.type(CTRL_D)
    assert await terminal.exit_code() == 0
    contents = [message["content"] for message in body(requests[1])["messages"]]
    assert contents == ["one", "Hello.", "two\nlines"]


async def test_ctrl_c_stops_the_answer_and_keeps_what_came(chat: Chat, base: str, engine: ScriptedEngine) -> None:
    engine.script = None
    terminal = await chat(base)
    await terminal.shows(PROMPT)
    terminal.type("go on" + ENTER)
    first = await engine.submitted.get()
    engine.client.receive(Step([NewToken(first.id, TOKEN)] * 4, []))
    await terminal.shows(TEXT * 4)
    terminal.type(CTRL_C)
    await terminal.shows("stopped")
    assert await engine.cancelled.get() == first.id
    await terminal.shows(PROMPT)
    terminal.type("and now" + ENTER)
    second = await engine.submitted.get()
    assert second.prompt.count(TOKEN) - first.prompt.count(TOKEN) == 4
    terminal.type(CTRL_C)
    await terminal.shows("stopped")


async def test_slashes_change_the_conversation(chat: Chat, rough: Rough, tmp_path: Path) -> None:
    requests: list[bytes] = []
    terminal = await chat(rough(asked(requests, chunk("Yes."), b"data: [DONE]\n\n")))
    await terminal.shows(PROMPT)
    for line, told in [
        ("/help", "/system TEXT"),
        ("/nonsense", "there is no /nonsense"),
        ("/again", "nothing was asked yet"),
        ("/system Be kind.", "with this system prompt"),
        ("/set temperature 0.5", "temperature is 0.5"),
        ("/set temperature hot", "must be a number"),
        ("Is it?", "Yes."),
        ("/again", "Yes."),
        (f"/save {tmp_path / 'said.md'}", "written to"),
        ("/clear", "forgotten"),
        ("/system", "without a system prompt"),
        ("/set temperature", "the server's own"),
        ("New?", "Yes."),
    ]:
        terminal.type(line + ENTER)
        await terminal.shows(told)
        await terminal.shows(PROMPT)
    terminal.type("/quit" + ENTER)
    assert await terminal.exit_code() == 0
    first, again, new = map(body, requests)
    assert first == again
    assert first["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Is it?"}]
    assert first["temperature"] == 0.5
    assert new["messages"] == [{"role": "user", "content": "New?"}]
    assert "temperature" not in new
    assert (tmp_path / "said.md").read_text() == "## system\n\nBe kind.\n\n## user\n\nIs it?\n\n## assistant\n\nYes.\n"


async def test_messages_are_remembered_over_runs_for_their_user_alone(chat: Chat, rough: Rough, tmp_path: Path) -> None:
    requests: list[bytes] = []
    address = rough(asked(requests, chunk("Yes."), b"data: [DONE]\n\n"))
    for keys in ("the first" + ENTER, UP + ENTER):
        terminal = await chat(address)
        await terminal.shows(PROMPT)
        terminal.type(keys)
        await terminal.shows("Yes.")
        await terminal.shows(PROMPT)
        terminal.type(CTRL_D)
        assert await terminal.exit_code() == 0
    assert [body(request)["messages"][0]["content"] for request in requests] == ["the first"] * 2
    assert stat.S_IMODE((tmp_path / "mlxserve" / "chat-history").stat().st_mode) == 0o600


async def test_an_answer_that_fails_leaves_the_conversation_as_it_was(chat: Chat, rough: Rough) -> None:
    broken = sse(b'{"error": {"message": "not now"}}', status="503 Unavailable", kind="application/json")
    requests: list[bytes] = []
    whole = asked(requests, chunk("Yes."), b"data: [DONE]\n\n")
    answers = iter([broken])
    terminal = await chat(
        rough(lambda request: whole(request) if request.startswith(b"GET") else next(answers, None) or whole(request))
    )
    await terminal.shows(PROMPT)
    terminal.type("one" + ENTER)
    await terminal.shows("not now")
    await terminal.shows(PROMPT)
    terminal.type("two" + ENTER)
    await terminal.shows("Yes.")
    assert [message["content"] for message in body(requests[0])["messages"]] == ["two"]
