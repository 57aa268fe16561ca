"""The events of a streamed chat, each with one kind of field in its delta."""

from __future__ import annotations

import msgspec

from mlxserve.api.answer import ChatFinish, ChunkHead, Identity, Timings, Usage, call_of, logprobs_of
from mlxserve.text.pieces import Content, Piece, PromptRead, Reasoning, ToolCall


class ChunkEncoder:
    """Encodes the chunks of one choice. What they have in common is encoded once, for there may be thousands."""

    def __init__(self, identity: Identity, include_usage: bool, index: int = 0) -> None:
        """With `include_usage` all chunks carry the field, null in all but the last."""
        self._encoder = msgspec.json.Encoder()
        head = self._encoder.encode(ChunkHead(identity.id, identity.created, identity.model))
        usage = b',"usage":null' if include_usage else b""
        self._head = b"data: " + head[:-1]
        self._before = self._head + b',"choices":[{"index":%d,"delta":{' % index
        self._between = b'},"logprobs":null,"finish_reason":'
        self._closed = b"}]" + usage
        self._after = self._closed + b"}\n\n"
        self._content = self._before + b'"content":'
        self._unfinished = self._between + b"null" + self._after
        self._calls = 0

    def role(self) -> bytes:
        """The first chunk."""
        return self._before + b'"role":"assistant"' + self._unfinished

    def piece(self, piece: Piece) -> bytes:
        """A piece of the answer."""
        match piece:
            case Content(logprobs=[]):
                return self._content + self._encoder.encode(piece.text) + self._unfinished
            case Content():
                logprobs = b'},"logprobs":' + self._encoder.encode(logprobs_of([piece])) + b',"finish_reason":null'
                return self._content + self._encoder.encode(piece.text) + logprobs + self._after
            case Reasoning():
                return self._before + b'"reasoning_content":' + self._encoder.encode(piece.text) + self._unfinished
            case ToolCall():
                return self._call(piece)

    def progress(self, read: PromptRead) -> bytes:
        """How far the prompt is read, with an empty delta, as llama-server has it."""
        told = b',"prompt_progress":' + self._encoder.encode(read)
        return self._before + self._between + b"null" + self._closed + told + b"}\n\n"

    def finish(self, reason: ChatFinish, timings: Timings) -> bytes:
        """The last chunk with a choice; its delta is empty."""
        ended = self._before + self._between + self._encoder.encode(reason) + self._closed
        return ended + b',"timings":' + self._encoder.encode(timings) + b"}\n\n"

    def usage(self, usage: Usage) -> bytes:
        """The chunk after all others, without a choice."""
        return self._head + b',"choices":[],"usage":' + self._encoder.encode(usage) + b"}\n\n"

    def _call(self, call: ToolCall) -> bytes:
        """Two chunks, as clients know them: what is called, then the arguments."""
        named = call_of(call)
        named.function.arguments = ""
        begun = self._encoder.encode(named)[1:]
        arguments = self._encoder.encode({"arguments": call.arguments})
        prefix = self._before + b'"tool_calls":[{"index":%d,' % self._calls
        self._calls += 1
        return prefix + begun + b"]" + self._unfinished + prefix + b'"function":' + arguments + b"}]" + self._unfinished
