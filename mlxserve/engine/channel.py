"""The pipe between node and engine process: a socket pair, MessagePack, one message a frame."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn

import msgspec

from mlxserve.config import Settings
from mlxserve.engine.messages import Alive, AskToDrain, Cancel, Command, Ended, Event, Shutdown, Submit

if TYPE_CHECKING:
    from mlxserve.engine.sequence import Sequence  # loads MLX, which this process may find broken

_commands = msgspec.msgpack.Decoder(Command)
_encode = msgspec.msgpack.Encoder().encode
_BEAT_SECONDS = 1.0


class EngineChannel:
    """The engine process's end. `send` may be called by any thread."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._connection = Connection(descriptor)
        self._verdict: Ended | None = None
        self._judge = 0
        self._sending = threading.Lock()
        self._loaded = False
        self.orders: SimpleQueue[Submit | Cancel | Sequence] = SimpleQueue()
        """What the node commands; the engine's own threads may add to it."""
        self.on_shutdown: Callable[[Shutdown], None] = lambda order: None
        """Called in the reader thread when the node wants the engine to end, before the process does."""
        self.on_drain: Callable[[], None] = lambda: self._shut_down(Shutdown())
        """Called in the reader thread when the node of a worker wants the server to end as soon as it may."""
        self.at_end: list[Callable[[], None]] = []
        """Called by whichever thread ends the process, just before that."""

    def receive_settings(self) -> Settings:
        """The first message. Raises EOFError when the node is gone."""
        return msgspec.msgpack.decode(self._connection.recv_bytes(), type=Settings)

    def start(self) -> None:
        """Read commands from now on, in a thread; without a node the process ends."""
        threading.Thread(target=self._read, daemon=True, name="commands").start()

    def show_life(self) -> None:
        """Tell the node from now on, in a thread, that this process runs."""
        threading.Thread(target=self._beat, daemon=True, name="beats").start()

    def loaded(self) -> None:
        """Tell the node that nothing will keep this process's threads from running any more."""
        self._loaded = True
        self.send(Alive(loaded=True))

    def send(self, event: Event) -> None:
        """Tell the node. If it is gone nobody needs the engine: the process ends."""
        try:
            with self._sending:
                self._connection.send_bytes(_encode(event))
        except OSError:
            os._exit(0)

    def decide(self, exit_code: int, message: str) -> None:
        """From now on the process ends like this, by this thread, whatever fails in others meanwhile."""
        self._verdict, self._judge = Ended(exit_code, message), threading.get_ident()

    def end(self, exit_code: int, message: str) -> NoReturn:
        """Say the last word and end the process at once, whatever its other threads do."""
        if self._verdict and self._judge != threading.get_ident():
            threading.Event().wait()  # until the thread that has decided ends the process
        for close in self.at_end:
            close()
        self.send(self._verdict or Ended(exit_code, message))
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(self._verdict.exit_code if self._verdict else exit_code)

    def _beat(self) -> NoReturn:
        while True:
            self.send(Alive(self._loaded))
            time.sleep(_BEAT_SECONDS)

    def _shut_down(self, order: Shutdown) -> NoReturn:
        self.decide(order.exit_code, order.reason)
        self.on_shutdown(order)
        self.end(order.exit_code, order.reason)

    def _read(self) -> None:
        try:
            while True:
                command = _commands.decode(self._connection.recv_bytes())
                if isinstance(command, Shutdown):
                    self._shut_down(command)
                elif isinstance(command, AskToDrain):
                    self.on_drain()
                else:
                    self.orders.put(command)
        except (OSError, EOFError):
            os._exit(0)
        except Exception as error:
            self.end(1, f"the engine cannot follow its node: {error}")
