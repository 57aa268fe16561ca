"""The server of tests/api, and a terminal to chat with it."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench_tool.conftest import anyio_backend, base, engine, folder, plain, rough, serve, settings

__all__ = ["anyio_backend", "base", "engine", "folder", "plain", "rough", "serve", "settings"]

PATIENCE = 15.0
START = """\
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""
"""The terminal on stdin becomes the program's own, so that Ctrl-C reaches it."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
CURSOR_ASKED, CURSOR = "\x1b[6n", b"\x1b[1;1R"


class Terminal:
    """A program on a terminal of its own: typed to, and read."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self._process = process
        self._master = master
        self._raw = ""
        self._seen = 0
        self._came = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def text(self) -> str:
        """All that it shows, without what only moves the cursor or colours."""
        return CONTROL.sub("", self._raw)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def shows(self, text: str) -> None:
        """Wait until `text` is shown, after what was waited for before."""
        async with asyncio.timeout(PATIENCE):
            while (at := self.text.find(text, self._seen)) < 0:
                self._came.clear()
                await self._came.wait()
        self._seen = at + len(text)

    async def exit_code(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self._process.returncode is None:
            self._process.kill()
        os.close(self._master)

    def _read(self) -> None:
        try:
            new = os.read(self._master, 65_536).decode(errors="replace")
        except OSError:  # nobody has it open any more
            asyncio.get_running_loop().remove_reader(self._master)
            return
        if CURSOR_ASKED in new:
            os.write(self._master, CURSOR)
        self._raw += new
        self._came.set()


@pytest.fixture
async def chat(tmp_path: Path) -> Iterator[Callable[..., object]]:
    """Starts `mlxserve chat` with these words, on a terminal."""
    started: list[Terminal] = []

    async def start(*words: str) -> Terminal:
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", START, "mlxserve", "chat", *words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"TERM": "xterm", "XDG_STATE_HOME": str(tmp_path)},
        )
        os.close(slave)
        started.append(Terminal(process, master))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()
