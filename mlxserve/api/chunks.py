"""The events of a streamed chat, each with one kind of field in its delta."""

from __future__ import annotations

import msgspec

from mlxserve.api.answer import ChunkHead, Identity, Usage
from mlxserve.engine.messages import FinishReason
from mlxserve.text.output import Piece

DONE = b"data: [DONE]\n\n"


class ChunkEncoder:
    """Encodes the chunks of one answer. What they have in common is encoded once, for there may be thousands."""

    def __init__(self, identity: Identity, include_usage: bool) -> None:
        """With `include_usage` all chunks carry the field, null in all but the last."""
        self._encoder = msgspec.json.Encoder()
        head = self._encoder.encode(ChunkHead(identity.id, identity.created, identity.model))
        usage = b',"usage":null' if include_usage else b""
        self._head = b"data: " + head[:-1]
        self._before = self._head + b',"choices":[{"index":0,"delta":{'
        self._between = b'},"logprobs":null,"finish_reason":'
        self._after = b"}]" + usage + b"}\n\n"
        self._content = self._before + b'"content":'
        self._unfinished = self._between + b"null" + self._after

    def role(self) -> bytes:
        """The first chunk."""
        return self._before + b'"role":"assistant"' + self._unfinished

    def piece(self, piece: Piece) -> bytes:
        """A piece of the answer."""
        return self._content + self._encoder.encode(piece.text) + self._unfinished

    def finish(self, reason: FinishReason) -> bytes:
        """The last chunk with a choice; its delta is empty."""
        return self._before + self._between + self._encoder.encode(reason) + self._after

    def usage(self, usage: Usage) -> bytes:
        """The chunk after all others, without a choice."""
        return self._head + b',"choices":[],"usage":' + self._encoder.encode(usage) + b"}\n\n"
