"""What nodes say to each other: MessagePack, one message a frame, and a sign of life each second."""

from __future__ import annotations

import asyncio
import struct

import msgspec

BEAT_SECONDS = 1.0
_LENGTH = struct.Struct("!I")
_LONGEST = 1 << 16
"""Bytes of a message: whoever reaches the port may send anything."""


class Here(msgspec.Struct, frozen=True, tag="here"):
    """A guest's first word: its planned rank, and the build that it runs."""

    rank: int
    build: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The host takes this guest into no group, ever."""

    reason: str


class Form(msgspec.Struct, frozen=True, tag="form"):
    """The host's word to the members: form this group."""

    number: int
    members: tuple[int, ...]


class Over(msgspec.Struct, frozen=True, tag="over"):
    """A guest's engine of this group has ended."""

    number: int
    reason: str


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A sign of life."""


Message = Here | Refused | Form | Over | Beat

_decode = msgspec.msgpack.Decoder(Message).decode
_encode = msgspec.msgpack.Encoder().encode


class Wire:
    """One connection between a guest's node and the host's. `silence`: seconds after which it counts as lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence: float) -> None:
        self._reader = reader
        self._writer = writer
        self._silence = silence
        self.has_heard = False
        """Whether the other end has ever said anything, be it a mere sign of life."""
        self._beating = asyncio.create_task(self._beat())

    @property
    def peer(self) -> str:
        """The address at the other end; empty where it is gone already."""
        name = self._writer.get_extra_info("peername")
        return str(name[0]) if name else ""

    def say(self, message: Message) -> None:
        """Send `message`; without effect where the other end is gone, which `hear` tells."""
        frame = _encode(message)
        if not self._writer.is_closing():
            self._writer.write(_LENGTH.pack(len(frame)) + frame)

    async def hear(self) -> Message | None:
        """The next message that is no mere sign of life; None when the other end is gone, silent or talks nonsense."""
        try:
            while isinstance(message := await self._next(), Beat):
                pass
        except (OSError, EOFError, TimeoutError, msgspec.DecodeError):
            return None
        return message

    def close(self) -> None:
        """Hang up."""
        self._beating.cancel()
        self._writer.close()

    async def _next(self) -> Message:
        async with asyncio.timeout(self._silence):
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > _LONGEST:
                raise EOFError(f"a message of {length} bytes")
            message: Message = _decode(await self._reader.readexactly(length))
            self.has_heard = True
            return message

    async def _beat(self) -> None:
        while True:
            self.say(Beat())
            await asyncio.sleep(BEAT_SECONDS)
