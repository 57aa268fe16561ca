"""`mlxserve top` as a user runs it."""

from __future__ import annotations

import asyncio
import sys

import pytest

from ..api.scripted_engine import ScriptedEngine
from ..bench_tool.conftest import Rough, sse

pytestmark = pytest.mark.anyio


async def top(*words: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mlxserve", "top", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_where_the_output_is_no_terminal_it_is_shown_once(base: str, engine: ScriptedEngine) -> None:
    code, out, err = await top(base)
    assert (code, err) == (0, "")
    assert out.startswith("● healthy")
    assert [line.split()[:2] for line in out.splitlines() if "mini-" in line] == [["0", "mini-1"], ["1", "mini-2"]]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sse(b'{"error": {"message": "no key"}}', status="401 Unauthorized"), "give it with --api-key"),
        (sse(b"nothing", status="404 Not Found"), "no server of mlxserve"),
        (sse(b'{"now": "today"}'), "something else than mlxserve does"),
    ],
)
async def test_what_is_no_server_of_mlxserve_is_told(rough: Rough, answer: bytes, told: str) -> None:
    code, _, err = await top(rough(lambda request: answer))
    assert code == 2
    assert told in err
