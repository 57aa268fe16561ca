"""The check's side of a probe on one host: started here or over ssh, asked twice, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import time
from asyncio.subprocess import PIPE, Process
from typing import TypeVar

import msgspec

from mlxserve.launch.check.messages import Answer, Connect, Facts, Missing, Question, Reached
from mlxserve.launch.check.visit import Trouble
from mlxserve.launch.command import UNREACHED, is_here, quoted, starting
from mlxserve.launch.hostfile import Host
from mlxserve.launch.script import OWN_CODE

_LONGEST_LINE = 1 << 20
_END_SECONDS = 2.0
_MISSING = """\
answer='{"type":"missing","system":"%s","version":"%s","machine":"%s","free_kilobytes":%s}\\n'
printf "$answer" "$(uname -s)" "$(sw_vers -productVersion 2>/dev/null)" "$(uname -m)" \
"$(df -Pk "$HOME" | awk 'NR == 2 { print $4 }')"
exit 127"""
"""What bash says of a host on which there is no mlxserve."""

Kind = TypeVar("Kind", Facts, Reached)


class Conversation:
    """One probe. Whatever a host says that is no answer is passed over: its shell's greeting, for example."""

    def __init__(self, host: Host, program: list[str], folder: str) -> None:
        self._is_here = is_here(host)
        self._command = starting(host, script_of(program, folder))
        self._process: Process | None = None
        self._patience = 0.0
        """Seconds that the probe has to end by itself: none while it owes an answer."""
        self._complaint: asyncio.Task[bytes] | None = None

    async def look(self, question: Question, seconds: float) -> Facts | Trouble:
        """Start the probe; its facts, or why there are none."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=_LONGEST_LINE, start_new_session=True
            )
        except FileNotFoundError:
            return Trouble("unreached", f"{self._command[0]} is not installed on this machine")
        assert self._process.stderr is not None
        self._complaint = asyncio.create_task(self._process.stderr.read())
        return await self._ask(question, Facts, seconds)

    async def reach(self, addresses: tuple[str, ...], seconds: float) -> tuple[Reached, float] | Trouble:
        """Let the probe connect to `addresses`; what came of it, and the seconds its clock is ahead of this one."""
        sent = time.time()
        answer = await self._ask(Connect(addresses), Reached, seconds)
        return answer if isinstance(answer, Trouble) else (answer, answer.clock - sent)

    async def end(self) -> None:
        """Let the probe end, and see to it that it does."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(self._patience):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if self._complaint:
            self._complaint.cancel()

    async def _ask(self, question: Question | Connect, kind: type[Kind], seconds: float) -> Kind | Trouble:
        self._patience = 0.0
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer(question, kind)
        except TimeoutError:
            return Trouble("silent", f"no answer within {seconds:g} s")
        self._patience = _END_SECONDS
        return answer

    async def _answer(self, question: Question | Connect, kind: type[Kind]) -> Kind | Trouble:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(msgspec.json.encode(question) + b"\n")
            await process.stdin.drain()
        while line := await process.stdout.readline():
            with contextlib.suppress(msgspec.DecodeError):
                answer = msgspec.json.decode(line, type=Answer)
                if isinstance(answer, Missing):
                    return Trouble("missing", bare=answer)
                if isinstance(answer, kind):
                    return answer
        return await self._trouble(process)

    async def _trouble(self, process: Process) -> Trouble:
        """Why the probe ended without an answer."""
        assert self._complaint is not None
        code = await process.wait()
        lines = (await self._complaint).decode(errors="replace").strip().splitlines()
        complaint = lines[-1].strip() if lines else f"it ended with exit code {code} and without a word"
        return Trouble("unreached" if code == UNREACHED and not self._is_here else "broken", complaint)


def script_of(program: list[str], folder: str) -> str:
    """The bash script that runs the probe, in `folder` where that exists, as a rank would."""
    command = f"{quoted(program[0])} {shlex.join([*program[1:], 'probe'])}"
    return "\n".join(
        [
            "echo",  # ends a line that the shell's start-up files have begun
            f"if [ -d {shlex.quote(folder)} ]; then cd {shlex.quote(folder)}; fi",
            f"command=({command})",
            'if [ -e "${command[0]}" ] || type -P "${command[0]}" > /dev/null; then',
            '    "${command[@]}"',
            f"    {OWN_CODE}; exit $code",
            "fi",
            _MISSING,
        ]
    )
