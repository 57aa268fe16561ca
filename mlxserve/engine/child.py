"""The node's end of an engine process: started, written to, read from, ended; and killed when it falls silent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys

import msgspec

from mlxserve.bundle import build_id, is_frozen, packed_file
from mlxserve.config import Settings
from mlxserve.engine.environment import engine_environment
from mlxserve.engine.messages import Command, Ended, Event, Shutdown
from mlxserve.engine.selfcheck import CRASHES, complaint
from mlxserve.engine.silence import Silence
from mlxserve.errors import BrokenBuild, RankLost
from mlxserve.rendezvous.formation import Formation

_LENGTH = struct.Struct("!i")
"""How multiprocessing.connection, which the engine uses, writes the length of a frame."""
_READ_LIMIT = 1 << 26
_BOOTLOADER_FAILED = 255
"""The exit code of the frozen application where a part of it is missing."""
_LINGER_SECONDS = 3.0
"""Between an engine's last word and its end."""

_decode = msgspec.msgpack.Decoder(Event).decode
_encode = msgspec.msgpack.Encoder().encode


class EngineChild:
    """One engine process from start to end."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        silence_timeout: float = Settings().silence_timeout,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._has_spoken = False
        self._silence = Silence(silence_timeout)
        self._watching: asyncio.Task[str] | None = None

    @classmethod
    async def start(cls, settings: Settings, formation: Formation) -> EngineChild:
        """Start an engine process with `settings`, as this node's rank of the group `formation`."""
        ours, theirs = socket.socketpair()
        settings = formation.settings(settings)
        try:
            with theirs, formation.variables(os.environ) as (variables, descriptors):
                process = await asyncio.create_subprocess_exec(
                    *own_command(),
                    "engine",
                    str(theirs.fileno()),
                    build_id(),
                    pass_fds=[theirs.fileno(), *descriptors],
                    stdin=asyncio.subprocess.DEVNULL,
                    env=engine_environment(variables, settings.place),
                )
        except OSError:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=_READ_LIMIT)
        child = cls(process, reader, writer, settings.silence_timeout)
        child._write(_encode(settings))
        child._watching = asyncio.create_task(child._end_when_silent())
        return child

    def send(self, command: Command) -> None:
        """Send `command`; without effect when the process is gone, which `receive` tells."""
        self._write(_encode(command))

    async def receive(self) -> Event | None:
        """The next event; None when the process has closed its end."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            event: Event = _decode(await self._reader.readexactly(length))
            self._has_spoken = True
            self._silence.ends_with(event)
            return event
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def stop(self, grace: float, order: Shutdown | None = None) -> None:
        """End the process: asked to first, by `order` if there is one, after `grace` seconds by SIGKILL."""
        self.send(order or Shutdown())
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End the process at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def outcome(self, last_word: Ended | None) -> Ended:
        """How the process ended, waited for: by its last word if it said one."""
        try:
            code = await asyncio.wait_for(self._process.wait(), _LINGER_SECONDS)
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        self._writer.close()
        fell_silent = self._watching is not None and not self._watching.cancel()
        if last_word is not None:
            return last_word
        if self._watching and fell_silent:
            return Ended(RankLost.exit_code, await self._watching)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if (-code in CRASHES or code == _BOOTLOADER_FAILED) and not self._has_spoken:
            return Ended(BrokenBuild.exit_code, complaint(f"the engine process {how} as it loaded MLX"))
        return Ended(code or 1, f"the engine process {how}")

    async def _end_when_silent(self) -> str:
        """Kill the process once it has been silent for too long, whatever it is in. Returns a sentence."""
        reason = await self._silence.too_long()
        self.kill()
        return reason

    def _write(self, frame: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(_LENGTH.pack(len(frame)) + frame)


def own_command() -> list[str]:
    """The command line that starts this program again; by its one file where its unpacked folder is gone."""
    if not is_frozen():
        return [sys.executable, "-m", "mlxserve"]
    file = None if os.path.exists(sys.executable) else packed_file()
    return [str(file or sys.executable)]
