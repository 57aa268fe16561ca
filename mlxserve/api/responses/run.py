"""Making one response: the generation told to its end, whole or as a stream's events."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import msgspec

from mlxserve.api.errors import INTERNAL, from_engine
from mlxserve.api.responses.answer import FailureCode
from mlxserve.api.responses.events import Error, Event, encoded
from mlxserve.api.responses.narration import Narration
from mlxserve.api.traffic.exchange import CLIENT_GONE, Exchange
from mlxserve.errors import EngineError, RequestCancelled

log = logging.getLogger("mlxserve.api")


class Run:
    """To be made once."""

    def __init__(self, narration: Narration, ended: Callable[[], None], exchange: Exchange) -> None:
        """`ended` is called when the answer is complete, before a client can know it."""
        self.narration = narration
        self._ended = ended
        self._exchange = exchange
        self._numbers = itertools.count()

    def progress(self) -> str:
        """For the comments of a stream."""
        return self.narration.generation.progress

    async def whole(self) -> bytes:
        """The answer as JSON, when there is all of it. Raises EngineError."""
        async with aclosing(self._events()) as events:
            async for _ in events:
                pass
        self._ended()
        return msgspec.json.encode(self.narration.answer)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer as a stream's events. An error is the last of them, since the headers are out."""
        status, reason = 500, ""
        self._exchange.admit(self.narration.answer.id, [self.narration.generation])
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    yield self.encoded(event)
            status = 200
        except (asyncio.CancelledError, GeneratorExit):
            status = CLIENT_GONE
            raise
        except EngineError as error:
            refused = from_engine(error)
            status, reason = refused.status, refused.detail.message
            code: FailureCode = "cancelled" if isinstance(error, RequestCancelled) else "server_error"
            for event in self.narration.fail(refused.detail.message, code):
                yield self.encoded(event)
        except Exception:
            reason = INTERNAL
            log.exception("%s failed", self._exchange.id)
            for event in self._broken():
                yield self.encoded(event)
        finally:
            self._exchange.end(status, reason)

    def encoded(self, event: Event) -> bytes:
        """`event` with its number. What ends an answer is known here before anybody is told."""
        if self.narration.answer.ended:
            self._ended()
        event.sequence_number = next(self._numbers)
        return encoded(event)

    async def _events(self) -> AsyncGenerator[Event, None]:
        narration = self.narration
        for event in narration.begin():
            yield event
        async with aclosing(narration.generation.pieces()) as pieces:
            async for piece in pieces:
                for event in narration.piece(piece):
                    yield event
        for event in narration.end():
            yield event

    def _broken(self) -> Iterator[Event]:
        yield Error(code="server_error", message=INTERNAL)
        yield from self.narration.fail(INTERNAL)
