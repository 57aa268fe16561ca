"""The pipe between node and engine process: a socket pair, MessagePack, one message a frame."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import NoReturn

import msgspec

from mlxserve.config import Settings
from mlxserve.engine.messages import Command, Ended, Event, Shutdown

_commands = msgspec.msgpack.Decoder(Command)
_encode = msgspec.msgpack.Encoder().encode


class EngineChannel:
    """The engine process's end. `send` may be called by any thread."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)
        self._sending = threading.Lock()
        self.commands: SimpleQueue[Command] = SimpleQueue()
        self.on_shutdown: Callable[[], None] = lambda: None
        """Called in the reader thread when the node wants the engine to end, before the process does."""

    def receive_settings(self) -> Settings:
        """The first message. Raises EOFError when the node is gone."""
        return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Settings)

    def start(self) -> None:
        """Read commands from now on, in a thread; without a node the process ends."""
        threading.Thread(target=self._read, daemon=True, name="commands").start()

    def send(self, event: Event) -> None:
        """Tell the node. If it is gone nobody needs the engine: the process ends."""
        try:
            with self._sending:
                self._connection.send_bytes(_encode(event))
        except OSError:
            os._exit(0)

    def end(self, exit_code: int, message: str) -> NoReturn:
        """Say the last word and end the process at once, whatever its other threads do."""
        self.send(Ended(exit_code, message))
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(exit_code)

    def _read(self) -> None:
        try:
            while True:
                command = _commands.decode(self._connection.recv_bytes())
                if isinstance(command, Shutdown):
                    self.on_shutdown()
                    self.end(0, "asked to end")
                self.commands.put(command)
        except (OSError, EOFError):
            os._exit(0)
