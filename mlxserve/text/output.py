"""Reading what a model writes: tokens in, pieces of an answer out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from mlxserve.text.detokenizer import Detokenizer
from mlxserve.text.format import OutputFormat, Tools
from mlxserve.text.pieces import Content, Piece, Reasoning, TokenLogprob
from mlxserve.text.stops import StopStrings


class OutputReader:
    """Reads one answer. Its pieces put together do not depend on how the tokens were handed over."""

    def __init__(
        self,
        detokenizer: Detokenizer,
        stop: Sequence[str] = (),
        format: OutputFormat | None = None,
        tools: Tools | None = None,
        thinking: bool = False,
    ) -> None:
        """Without `format` all text is content. With `thinking` the prompt ended within the model's reasoning."""
        self._detokenizer = detokenizer
        self._stop = StopStrings(stop)
        self._splitter = Splitter(format, tools or [], thinking) if format else None
        self._logprobs = DueLogprobs()
        self.tokens_read = 0
        self.reasoning_tokens = 0

    @property
    def stopped(self) -> bool:
        """A stop string is complete: no more tokens are read."""
        return self._stop.found

    @property
    def stop_string(self) -> str:
        """The one that is complete; empty until then."""
        return self._stop.string

    def read(self, tokens: Iterable[int], logprobs: Sequence[TokenLogprob] = ()) -> list[Piece]:
        """Take in `tokens`, up to the one that completes a stop string; `logprobs` has one for each, or none at all."""
        pieces: list[Piece] = []
        for number, token in enumerate(tokens):
            self.tokens_read += 1
            self._detokenizer.add_token(token)
            text, before = self._detokenizer.last_segment, self._kind
            shown = self._stop.feed(text)
            pieces += self._split(shown)
            self.reasoning_tokens += "reasoning" in (before, self._kind)
            is_content = bool(logprobs) and before == self._kind == "normal"
            self._logprobs.add(text, shown, logprobs[number] if is_content else None)
            if self.stopped:
                pieces += self._end()
                break
        return self._joined(pieces)

    def finish(self) -> list[Piece]:
        """No more tokens: whatever was held back."""
        self._detokenizer.finalize()
        text = self._detokenizer.last_segment
        shown = self._stop.feed(text) + self._stop.flush()
        self._logprobs.add(text, shown, None)
        return self._joined(self._split(shown) + self._end())

    @property
    def _kind(self) -> str:
        return self._splitter.kind if self._splitter else "normal"

    def _split(self, text: str) -> list[Piece]:
        if self._splitter is None:
            return [Content(text)] if text else []
        return self._splitter.feed(text)

    def _end(self) -> list[Piece]:
        return self._splitter.finish() if self._splitter else []

    def _joined(self, pieces: list[Piece]) -> list[Piece]:
        """`pieces`, neighbours of one kind as one, with the log-probabilities of the tokens that they came from."""
        joined: list[Piece] = []
        for piece in pieces:
            last = joined[-1] if joined else None
            if isinstance(piece, Content) and isinstance(last, Content):
                joined[-1] = Content(last.text + piece.text)
            elif isinstance(piece, Reasoning) and isinstance(last, Reasoning):
                joined[-1] = Reasoning(last.text + piece.text)
            else:
                joined.append(piece)
        for index, piece in enumerate(joined):
            if isinstance(piece, Content) and (due := self._logprobs.take()):
                joined[index] = Content(piece.text, due)
        return joined


class DueLogprobs:
    """The log-probabilities to be told: a token's as soon as its text has begun to be shown, never before.

    So those of a stop string are not told, and what is told does not depend on how the tokens came.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._written = 0
        self._shown = 0

    def add(self, text: str, shown: str, logprob: TokenLogprob | None) -> None:
        """A token became `text`, and `shown` is certain to be part of the answer now."""
        if logprob is not None:
            self._waiting.append((self._written, logprob))
        self._written += len(text)
        self._shown += len(shown)

    def take(self) -> list[TokenLogprob]:
        """Those that are due."""
        due = []
        while self._waiting and self._waiting[0][0] < self._shown:
            due.append(self._waiting.popleft()[1])
        return due


class Splitter:
    """Splits text by the marks of a format. Space around reasoning and tool calls belongs to neither side."""

    def __init__(self, format: OutputFormat, tools: Tools, thinking: bool) -> None:
        self._format = format if tools else format.without_tools()
        self._tools = tools
        self._machine: Any = self._format.machine()
        initial = format.initial_state or ("reasoning" if thinking else "normal")
        self._state = self._machine.make_state(initial=initial)
        self._call: str | None = None
        self._space_before_call = ""
        self._space = ""
        """Space whose place is not known yet: dropped before a mark, else part of the text that follows."""
        self._fresh = thinking
        """Whether a mark came last, so that space at the beginning is dropped."""
        self.kind: str = initial
        """What comes next: "normal" (content), "reasoning", "tool", or a part of an answer that nobody is shown."""

    def feed(self, text: str) -> list[Piece]:
        """Take in more text."""
        self._state, segments = self._machine.split(self._state, text)
        pieces: list[Piece] = []
        for kind, segment in segments:
            pieces += self._segment(kind, segment)
        return pieces

    def finish(self) -> list[Piece]:
        """No more text. A call that was cut off, so that it cannot be read, is content."""
        self._state, rest, kind = self._machine.flush(self._state)
        pieces = self._segment(kind, rest) + self._close_call("")
        if self._space and not self._fresh and self.kind == "normal":
            pieces.append(Content(self._space))
        self._space = ""
        return pieces

    def _segment(self, kind: str, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        if kind != self.kind:
            self._space_before_call = self._space if kind == "tool" else self._space_before_call
            self.kind, self._fresh, self._space = kind, True, ""
            pieces = self._close_call(self._format.tool_call_end or "")
        if kind == "tool":
            self._call = (self._call or "") + text
        elif kind in ("normal", "reasoning") and (shown := self._trimmed(text)):
            pieces.append(Content(shown) if kind == "normal" else Reasoning(shown))
        return pieces

    def _close_call(self, mark: str) -> list[Piece]:
        if self._call is None:
            return []
        text, self._call = self._call, None
        try:
            return [*self._format.calls(text, self._tools)]
        except ValueError:
            self._fresh = False  # the marks were text, and so is the space around them
            return [Content(f"{self._space_before_call}{self._format.tool_call_start}{text}{mark}")]

    def _trimmed(self, text: str) -> str:
        if self._fresh:
            text = text.lstrip()
        body = text.rstrip()
        if not body:
            self._space += text
            return ""
        shown, self._space, self._fresh = self._space + body, text[len(body) :], False
        return shown
