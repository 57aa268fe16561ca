"""The control link: an ordered, authenticated TCP stream between rank 0 and each worker.

Plans go out; heartbeats, figures and "ready" come back. A reader thread takes messages off the wire, and a closed or
silent link ends the process: a hung collective cannot be cancelled in any other way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Protocol

import msgspec

from mlxserve.config import Capacity, Parallel
from mlxserve.errors import RankLost
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.plan import Plan
from mlxserve.pipeline.selftest import RelayFindings, RelayTimes, TimeRelay
from mlxserve.pipeline.trace import Span
from mlxserve.sockets import send_small_messages_at_once


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A worker's first word: who it is and what it runs."""

    rank: int
    host: str
    pid: int
    device: str
    versions: dict[str, str]
    capacity: Capacity = Capacity()


class Capacities(msgspec.Struct, frozen=True, tag="capacities"):
    """Rank 0's answer to all: what each rank has, by which they split the model alike."""

    ranks: list[Capacity]


class ForWeights(msgspec.Struct, frozen=True, tag="for-weights"):
    """The first word on a worker's second connection, which is for what it lacks of the model."""


class Chosen(msgspec.Struct, frozen=True, tag="chosen"):
    """What rank 0 has chosen for all that were started with `--parallel auto`."""

    mode: Parallel


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The worker has its layers in memory, or why it cannot."""

    error: str = ""
    exit_code: int = 0
    batchable: bool = True
    cuttable: bool = True
    """Whether all caches can be cut after any token."""
    footprint: Footprint = Footprint()
    free_bytes: int = 0
    """Memory for caches that is free after loading."""
    stored: dict[str, int] = {}
    """The segments that a former run left in `--prefix-cache-dir`, and the bytes of each."""
    stored_lengths: dict[str, int] = {}
    """The tokens of each: other than the index's, where a run ended between two files of a segment that was split."""
    traits: dict[str, str] = {}
    """By name, what is equal on all ranks that serve the same model, cut and computed alike."""


class AtBarrier(msgspec.Struct, frozen=True, tag="ready"):
    """The worker has computed and is about to enter the collective of this tick."""

    tick: int


class Enter(msgspec.Struct, frozen=True, tag="enter"):
    """All ranks have: enter the collective of this tick."""

    tick: int


class Heartbeat(msgspec.Struct, frozen=True, tag="beat"):
    """A sign of life with the sender's figures so far."""

    busy_seconds: float = 0.0
    tokens: int = 0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0
    weights_bytes: int = 0
    cache_bytes: int = 0
    """Buffers that MLX has freed and keeps for reuse."""
    free_bytes: int = 0
    """What programs may still take of the machine."""
    total_bytes: int = 0
    """All that the machine has."""
    given_bytes: int = 0
    """Hidden states that were given to the next rank."""
    exchange_seconds: float = 0.0
    """Of the quickest exchange in the last second with any; 0: there was none."""


class LoadingNote(msgspec.Struct, frozen=True, tag="note"):
    """What the worker is doing before it is loaded, for people."""

    text: str


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """The server is to end, on all ranks. From a worker: it was asked to; from rank 0: do."""

    reason: str = ""
    exit_code: int = 0


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """A worker was asked to end: the server is to end as soon as the answers that have begun have."""

    reason: str


class ClockAsked(msgspec.Struct, frozen=True, tag="clock-asked"):
    """What is the time? Asked at `asked` by rank 0's `time.perf_counter`."""

    asked: float


class ClockTold(msgspec.Struct, frozen=True, tag="clock-told"):
    """It is `now` by the worker's."""

    asked: float
    now: float


class Traced(msgspec.Struct, frozen=True, tag="traced"):
    """What the worker has done since it last told, for `--trace`."""

    spans: list[Span]


Message = (
    Plan
    | Hello
    | ForWeights
    | Capacities
    | Chosen
    | Loaded
    | AtBarrier
    | Enter
    | Heartbeat
    | LoadingNote
    | TimeRelay
    | RelayFindings
    | RelayTimes
    | Drain
    | Leave
    | ClockAsked
    | ClockTold
    | Traced
)

HEARTBEAT_SECONDS = 1.0

decode = msgspec.msgpack.Decoder(Message).decode
encode = msgspec.msgpack.Encoder().encode


class Link:
    """One end of the stream to one peer. `send` may be called by any thread."""

    def __init__(self, connection: Connection, peer: str) -> None:
        send_small_messages_at_once(connection)
        self._connection = connection
        self._sending = threading.Lock()
        self.peer = peer
        self.inbox: SimpleQueue[Message] = SimpleQueue()
        self.last_heard = time.monotonic()
        self.figures = Heartbeat()
        self.ended = threading.Event()
        self.on_message: Callable[[Message], bool] = lambda message: False
        """Called in the reader thread; true keeps the message out of the inbox."""

    def send(self, message: Message) -> None:
        """Send `message`. Raises RankLost if the peer is gone."""
        try:
            with self._sending:
                self._connection.send_bytes(encode(message))
        except OSError as error:
            raise RankLost(f"{self.peer} closed its link") from error

    def receive(self, timeout: float | None = None) -> Message:
        """The next message, waited for asleep. Raises `queue.Empty` after `timeout` seconds."""
        return self.inbox.get(timeout=timeout)

    def start(self, lost: Callable[[str], None]) -> None:
        """Read from now on, in a thread; `lost` is called in it with a sentence when the link breaks."""
        threading.Thread(target=self._read, args=(lost,), daemon=True, name=f"link-{self.peer}").start()

    def _read(self, lost: Callable[[str], None]) -> None:
        try:
            while True:
                message = decode(self._connection.recv_bytes())
                self.last_heard = time.monotonic()
                if isinstance(message, Heartbeat):
                    self.figures = message
                elif not self.on_message(message):
                    self.inbox.put(message)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            self.ended.set()
            lost(f"{self.peer} is lost: {_said(error)}")


class Vital(Protocol):
    """What a rank shows of itself to those who watch over it."""

    figures: Heartbeat
    working_since: float | None
    """By `time.monotonic`, while a tick is being carried out."""

    @property
    def longest_tick(self) -> float:
        """Seconds after which a tick waits for something that will not come."""
        ...


class Watch:
    """Sends heartbeats over `links`, and notices a silent peer or a tick that does not end."""

    def __init__(self, links: list[Link], own: Vital, silence_timeout: float) -> None:
        self._links = links
        self._own = own
        self._timeout = silence_timeout

    def start(self, lost: Callable[[str], None]) -> None:
        """Watch from now on, in a thread; `lost` is called in it with a sentence."""
        threading.Thread(target=self._watch, args=(lost,), daemon=True, name="watch").start()

    def _watch(self, lost: Callable[[str], None]) -> None:
        reason = ""
        while not reason:
            time.sleep(HEARTBEAT_SECONDS)
            reason = self._beat() or self._silence() or self._stuck()
        lost(reason)

    def _beat(self) -> str:
        try:
            for link in self._links:
                link.send(self._own.figures)
        except RankLost as error:
            return str(error)
        return ""

    def _silence(self) -> str:
        for link in self._links:
            silence = time.monotonic() - link.last_heard
            if silence > self._timeout:
                return f"{link.peer} is lost: not a word for {silence:.1f} s"
        return ""

    def _stuck(self) -> str:
        since, longest = self._own.working_since, self._own.longest_tick
        if since is not None and time.monotonic() - since > longest:
            return f"a tick has not ended within {longest:.0f} s: a rank or a cable between ranks is stuck"
        return ""


def _said(error: BaseException) -> str:
    return str(error) or "the connection was closed"
