"""The events of a streamed answer, as Anthropic's clients know them."""

from __future__ import annotations

from typing import Any

import msgspec

from mlxserve.api.anthropic.answer import (
    Block,
    Message,
    TextBlock,
    ThinkingBlock,
    stop_reason_of,
    tool_use,
    usage_of,
)
from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Content, Piece, Reasoning, ToolCall


def event(kind: str, **fields: Any) -> bytes:
    """One event, encoded."""
    return named(kind, msgspec.json.encode({"type": kind, **fields}))


def named(kind: str, data: bytes) -> bytes:
    """One event whose data is encoded already."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


PING = event("ping")


class EventEncoder:
    """Encodes one answer: its blocks one after the other, each begun, written in pieces and ended."""

    def __init__(self) -> None:
        self._index = -1
        self._open: type[Piece] | None = None

    def begin(self, message: Message) -> bytes:
        """What comes before all blocks."""
        return event("message_start", message=message) + PING

    def piece(self, piece: Piece) -> bytes:
        """A piece of the answer; a tool call is a block of its own, always."""
        begun = b""
        if type(piece) is not self._open or isinstance(piece, ToolCall):
            begun = self._end_block()
            self._index, self._open = self._index + 1, type(piece)
            begun += event("content_block_start", index=self._index, content_block=_empty(piece))
        return begun + self._delta(_delta(piece))

    def end(self, generation: Generation) -> bytes:
        """What comes after all pieces."""
        ended = {"stop_reason": stop_reason_of(generation), "stop_sequence": generation.stop_string or None}
        told = event("message_delta", delta=ended, usage=usage_of(generation))
        return self._end_block() + told + event("message_stop")

    def _end_block(self) -> bytes:
        if self._open is None:
            return b""
        signed = self._delta({"type": "signature_delta", "signature": ""}) if self._open is Reasoning else b""
        return signed + event("content_block_stop", index=self._index)

    def _delta(self, delta: dict[str, str]) -> bytes:
        return event("content_block_delta", index=self._index, delta=delta)


def _empty(piece: Piece) -> Block:
    match piece:
        case Content():
            return TextBlock("")
        case Reasoning():
            return ThinkingBlock("")
        case ToolCall():
            return tool_use(piece, "{}")


def _delta(piece: Piece) -> dict[str, str]:
    match piece:
        case Content():
            return {"type": "text_delta", "text": piece.text}
        case Reasoning():
            return {"type": "thinking_delta", "thinking": piece.text}
        case ToolCall():
            return {"type": "input_json_delta", "partial_json": piece.arguments}
