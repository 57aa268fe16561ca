"""A bash script run once on a host, here or over ssh, and what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterable
from subprocess import PIPE

import msgspec

from mlxserve.errors import UserError
from mlxserve.launch.command import UNREACHED, is_here, starting
from mlxserve.launch.hostfile import Host
from mlxserve.launch.script import OWN_CODE

TIMED_OUT = 124


class Answer(msgspec.Struct, frozen=True):
    """How a script ended on a host, and what it wrote."""

    code: int
    output: str
    complaint: str
    """What it wrote to stderr, or ssh did."""
    reached: bool = True
    """False where ssh did not get to the host, or lost it."""


async def run_on(host: Host, script: str, stdin: bytes | AsyncIterable[bytes] = b"", timeout: float = 30.0) -> Answer:
    """Run `script` with bash on `host`, `stdin` on its standard input, for at most `timeout` seconds."""
    command = starting(host, f"(\n{script}\n)\n{OWN_CODE}; exit $code")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    except FileNotFoundError as error:
        raise UserError(f"{host.ssh} needs {command[0]}, which is not installed here") from error
    try:
        async with asyncio.timeout(timeout):
            output, complaint, _ = await asyncio.gather(
                _read(process.stdout), _read(process.stderr), _feed(process, stdin)
            )
            code = await process.wait()
    except TimeoutError:
        return Answer(TIMED_OUT, "", f"no answer within {timeout:g} s")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too: they hold its output open
            await process.wait()
    return Answer(code, output, complaint.strip(), is_here(host) or code != UNREACHED)


async def _read(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await stream.read()).decode(errors="replace")


async def _feed(process: asyncio.subprocess.Process, data: bytes | AsyncIterable[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if isinstance(data, bytes):
            process.stdin.write(data)
            await process.stdin.drain()
        else:
            async for piece in data:
                process.stdin.write(piece)
                await process.stdin.drain()
    process.stdin.close()


def unreached(host: Host, answer: Answer) -> str:
    """A sentence for a host that ssh did not get to."""
    complaint = answer.complaint.splitlines()[-1] if answer.complaint else "the connection was lost"
    return f"{host.ssh} was not reached ({complaint}): does `ssh {host.ssh} true` work without a password?"
