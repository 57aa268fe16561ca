"""`mlxserve bench` as a user runs it, against mlxserve's own API and against servers that break."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxserve.__main__ import run
from tests.ports import free_port

from ..api.scripted_engine import ScriptedEngine
from .conftest import Rough, chunk, sse

QUICK = ("--streams", "2", "--requests", "4", "--rounds", "2", "--tokens", "4")
ALL = "chat,long-prompt,shared-prefix,agent,burst,edit"
TOKEN = 65


async def bench(*words: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mlxserve",
        "bench",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def answering(*events: bytes, **head: str) -> Any:
    """A server of one model whose chats all get the same."""
    models = sse(b'{"data": [{"id": "tiny"}]}', kind="application/json")
    return lambda request: models if request.startswith(b"GET") else sse(*events, **head)


WHOLE = (chunk("a"), chunk("b"), b"data: [DONE]\n\n")


@pytest.mark.anyio
async def test_a_server_gets_its_table_and_chart(base: str, engine: ScriptedEngine) -> None:
    engine.script = [TOKEN] * 9
    code, out, err = await bench(base, *QUICK)
    assert code == 0
    assert out.startswith("chat: short prompts, all different\n")
    (row,) = [line.split() for line in out.splitlines() if line.split()[:2] == ["2", "8"]]
    assert len(row) >= 11
    assert "tokens/s by streams" in out
    assert "!" not in out
    assert err.count("round") == 2


@pytest.mark.anyio
async def test_json_has_all_figures(base: str, engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.script = [TOKEN] * 9
    code, out, _ = await bench(base, *QUICK, "--workload", "chat,burst", "--seed", "7", "--json", "-")
    assert code == 0
    told = json.loads(out)
    assert told["schema"] == 1
    assert told["servers"] == [{"url": base, "model": "mlx-community/Tiny-8bit"}]
    assert told["settings"]["seed"] == 7
    assert "api_key" not in told["settings"]
    assert [(each["workload"], each["streams"]) for each in told["results"]] == [("chat", 2), ("burst", 2)]
    chat, burst = (each["servers"][0] for each in told["results"])
    assert (chat["requests"], chat["tokens"], chat["counted_by_usage"]) == (8, 32, True)
    assert burst["requests"] == 4
    assert len(chat["rounds"]) == 2
    assert 0 < chat["first_token"]["p50"] <= chat["first_token"]["p95"] <= chat["first_token"]["p99"] < 5
    assert (chat["errors"], chat["retries"], chat["whole"]) == ({}, 0, True)
    assert "ratios" not in told["results"][0]


@pytest.mark.anyio
async def test_every_workload_is_answered(base: str, engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.become_ready(context_length=20_000)
    engine.script = [TOKEN] * 9
    file = tmp_path / "result.json"
    words = ("--streams", "1", "--requests", "1", "--rounds", "1", "--tokens", "3", "--json", str(file))
    code, out, err = await bench(base, "--workload", ALL, *words)
    assert (code, "!" in out) == (0, False), out + err
    results = json.loads(file.read_text())["results"]
    assert [each["workload"] for each in results] == ALL.split(",")
    assert [each["servers"][0]["requests"] for each in results] == [1, 1, 1, 8, 1, 1]


@pytest.mark.anyio
async def test_two_servers_are_measured_in_turn_with_the_same_requests(rough: Rough) -> None:
    asked: list[tuple[str, str]] = []

    def of(name: str) -> str:
        def answer(request: bytes) -> bytes:
            if request.startswith(b"POST"):
                body = json.loads(request[request.index(b"{") :])
                asked.append((name, body["messages"][1]["content"]))
            return bytes(answering(*WHOLE)(request))

        return rough(answer)

    words = ("--streams", "1", "--requests", "1", "--rounds", "2", "--json", "-")
    code, out, _ = await bench(of("a"), "--against", of("b"), *words)
    assert code == 0
    assert [name for name, _ in asked] == ["a", "b", "a", "b", "b", "a"]  # a warm-up each, then pair by pair
    warm, other, first, again, second, last = (content for _, content in asked)
    assert (warm, first, second) == (other, again, last)
    assert len({warm, first, second}) == 3
    (result,) = json.loads(out)["results"]
    assert len(result["ratios"]) == 2
    assert all(ratio > 0 for ratio in result["ratios"])


@pytest.mark.anyio
async def test_both_servers_and_their_ratio_are_printed(rough: Rough) -> None:
    urls = [rough(answering(*WHOLE)) for _ in range(2)]
    code, out, _ = await bench(urls[0], "--against", urls[1], *QUICK)
    assert code == 0
    assert all(out.count(url) >= 2 for url in urls)
    assert "tokens/s of the first / of the second" in out
    assert "the server tells no usage: events are counted as tokens" in out


@pytest.mark.anyio
async def test_some_failures_are_counted_and_told(rough: Rough) -> None:
    count = iter(range(100))

    def answer(request: bytes) -> bytes:
        if request.startswith(b"POST") and next(count) > 2:
            return sse(b'{"error": {"message": "too busy"}}', status="503 Busy", kind="application/json")
        return bytes(answering(*WHOLE)(request))

    code, out, _ = await bench(rough(answer), "--streams", "1", "--requests", "4", "--rounds", "1")
    assert code == 1
    assert "! 1 at a time: 2 of 4 requests failed: status 503: too busy (2)" in out


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            answering(b'{"error": {"message": "no key"}}', status="401 No"),
            "status 401: no key; name a key with --api-key",
        ),
        (answering(b'{"error": "no such model"}', status="404 No"), "status 404: no such model; is it the address of"),
        (answering(b'{"choices": []}', kind="application/json"), "answered with application/json instead of"),
        (answering(chunk("a")), "the stream ended before its end"),
        (answering(b"data: [DONE]\n\n"), "an empty answer"),
        (answering(b"data: {broken\n\n"), "a broken event"),
        (answering(chunk("a"), b'data: {"error": {"message": "out of memory"}}\n\n'), "out of memory"),
        (lambda _: b"220 mail.example.com\r\n", "broken HTTP"),
    ],
)
def test_a_server_that_answers_nothing_is_one_sentence_and_exit_code_2(
    answer: Any, sentence: str, rough: Rough, capsys: pytest.CaptureFixture[str], interrupts: None
) -> None:
    assert run(["bench", rough(answer), "--streams", "1"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("mlxserve: error: ")
    assert sentence in errors
    assert errors.count("\n") == 1


def test_an_address_where_nothing_listens_is_told(capsys: pytest.CaptureFixture[str], interrupts: None) -> None:
    assert run(["bench", f"http://127.0.0.1:{free_port()}"]) == 2
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:notaport", "http://x?y=1"])
def test_what_is_no_address_is_told(url: str, capsys: pytest.CaptureFixture[str], interrupts: None) -> None:
    assert run(["bench", url]) == 2
    assert "is no address of a server, such as http://localhost:8100" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workload", "chats"], "argument --workload: must be among chat,"),
        (["--streams", "0"], "argument --streams: must be a whole number from 1 to 1024, not '0'"),
        (["--rounds", "0"], "argument --rounds: must be a whole number, 1 or more, not '0'"),
        (["--temperature", "-1"], "argument --temperature: must be a number 0 or more, not '-1'"),
    ],
)
def test_a_mistake_is_told(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "http://localhost:1", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_of_several_models_one_must_be_named(
    rough: Rough, capsys: pytest.CaptureFixture[str], interrupts: None
) -> None:
    models = sse(b'{"data": [{"id": "one"}, {"id": "two"}]}', kind="application/json")
    assert run(["bench", rough(lambda _: models)]) == 2
    assert "serves several models: choose with --model: one, two" in capsys.readouterr().err


@pytest.mark.anyio
async def test_key_and_model_are_sent(rough: Rough, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXSERVE_API_KEY", "sk-one,sk-two")
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        return bytes(answering(*WHOLE)(request))

    code, _, _ = await bench(f"{rough(answer)}/v1", "--model", "mine", "--streams", "1", "--requests", "1")
    assert code == 0
    assert all(b"Authorization: Bearer sk-one\r\n" in request for request in requests)
    posted = [request for request in requests if request.startswith(b"POST /v1/chat/completions ")]
    assert posted
    assert all(b'"model":"mine"' in request and b'"temperature":0.0' in request for request in posted)


@pytest.mark.anyio
async def test_a_connection_reset_before_the_answer_is_tried_again(rough: Rough) -> None:
    posts = iter(range(100))

    def answer(request: bytes) -> bytes:
        if request.startswith(b"POST") and next(posts) == 1:
            return b""
        return bytes(answering(*WHOLE)(request))

    code, out, _ = await bench(rough(answer), "--streams", "1", "--requests", "2", "--rounds", "1")
    assert code == 0
    assert "! 1 at a time: 1 connections were lost and tried again" in out


@pytest.mark.anyio
async def test_ctrl_c_prints_what_there_is(rough: Rough) -> None:
    """The third round never ends."""
    posts, stuck, released = iter(range(100)), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def answer(request: bytes) -> bytes:
        if request.startswith(b"POST") and next(posts) == 3:
            loop.call_soon_threadsafe(stuck.set)
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
        return bytes(answering(*WHOLE)(request))

    words = (rough(answer), "--streams", "1", "--requests", "1", "--rounds", "9", "--json", "-")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mlxserve",
        "bench",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await stuck.wait()
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    released.set()
    assert process.returncode == 130
    (result,) = json.loads(out)["results"]
    (server,) = result["servers"]
    assert server["whole"] is False
    assert len(server["rounds"]) == 2
