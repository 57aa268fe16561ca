"""Tokens to text, as they come."""

from __future__ import annotations

from typing import Any

_REMEMBERED = 512
"""Characters after which mlx-lm's detokenizer is made to forget those that were taken."""


class Detokenizer:
    """One of mlx-lm's streaming detokenizers, kept short.

    They keep the whole answer and copy it for each token, which for long answers costs more than all else does.
    """

    def __init__(self, streaming: Any) -> None:
        self._streaming = streaming
        self._text = "_text" if hasattr(streaming, "_text") else "text"
        """Where it keeps the answer; where `text` is made when it is asked for, what that begins with."""
        self.add_token = streaming.add_token
        """Take in a token."""
        self.finalize = streaming.finalize
        """No more tokens: what is left of an incomplete character becomes U+FFFD."""

    @property
    def last_segment(self) -> str:
        """The text that became certain since it was last asked for; it never ends within a character."""
        segment: str = self._streaming.last_segment
        if self._streaming.offset > _REMEMBERED:
            self._forget()
        return segment

    def _forget(self) -> None:
        """All but a character, by which it knows that the answer has begun."""
        text: str = getattr(self._streaming, self._text)
        taken = max(0, min(self._streaming.offset, len(text)) - 1)
        setattr(self._streaming, self._text, text[taken:])
        self._streaming.offset -= taken
        self._streaming.tokens.clear()
