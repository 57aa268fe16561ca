"""Reading what a model writes: tokens in, pieces of an answer out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mlxserve.text.stops import StopStrings
from mlxserve.text.tokenizer import Detokenizer


class Content(msgspec.Struct, frozen=True):
    """Text of the answer; never empty."""

    text: str


Piece = Content
"""What an answer is made of. Reasoning and tool calls will be kinds of their own."""


class OutputReader:
    """Reads one answer. Its pieces put together do not depend on how the tokens were handed over."""

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stop = StopStrings(stop)
        self.tokens_read = 0

    @property
    def stopped(self) -> bool:
        """A stop string is complete: no more tokens are read."""
        return self._stop.found

    def read(self, tokens: Iterable[int]) -> list[Piece]:
        """Take in `tokens`, up to the one that completes a stop string."""
        texts = []
        for token in tokens:
            self.tokens_read += 1
            self._detokenizer.add_token(token)
            texts.append(self._stop.feed(self._detokenizer.last_segment))
            if self.stopped:
                break
        return _pieces("".join(texts))

    def finish(self) -> list[Piece]:
        """No more tokens: whatever was held back."""
        self._detokenizer.finalize()
        text = self._stop.feed(self._detokenizer.last_segment)
        return _pieces(text + self._stop.flush())


def _pieces(text: str) -> list[Piece]:
    return [Content(text)] if text else []
