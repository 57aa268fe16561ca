"""Log-probabilities in the shape that OpenAI's completions have, and where each token stands in the text."""

from __future__ import annotations

import codecs

import msgspec

from mlxserve.text.pieces import TokenLogprob, TokenText

LEAST = -9999.0
"""Stands for minus infinity, which JSON cannot say; vLLM's number."""


class Logprobs(msgspec.Struct):
    """One entry a token. The prompt's first token has no log-probability."""

    text_offset: list[int] = msgspec.field(default_factory=list)
    """Where the token begins in the choice's text, in characters."""
    token_logprobs: list[float | None] = msgspec.field(default_factory=list)
    tokens: list[str] = msgspec.field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = msgspec.field(default_factory=list)
    """The likeliest tokens and the one that was chosen."""

    def add(self, offset: int, one: TokenLogprob | str) -> None:
        """Add a token; one without a log-probability as its name."""
        self.text_offset.append(offset)
        if isinstance(one, str):
            self.tokens.append(one)
            self.token_logprobs.append(None)
            self.top_logprobs.append(None)
            return
        self.tokens.append(name_of(one.token))
        self.token_logprobs.append(max(LEAST, one.token.logprob))
        self.top_logprobs.append(_alternatives(one))

    def extend(self, later: Logprobs) -> None:
        """Add the entries of `later`."""
        self.text_offset += later.text_offset
        self.token_logprobs += later.token_logprobs
        self.tokens += later.tokens
        self.top_logprobs += later.top_logprobs


class Position:
    """Where the next token begins in a text, by the tokens' bytes: those that share a character begin at it."""

    def __init__(self, start: int = 0) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.here = start
        """In characters."""

    def passed(self, token: bytes) -> int:
        """Go on to after `token`; returns where it began."""
        began = self.here
        self.here += len(self._decoder.decode(token))
        return began


def prompt_offsets(tokens: list[bytes], text: str) -> list[int]:
    """Where the prompt's tokens begin in its text, which may lack what the tokenizer put before it."""
    position = Position()
    offsets = [position.passed(token) for token in tokens]
    whole = b"".join(tokens).decode(errors="replace")
    added = len(whole) - len(text) if whole.endswith(text) else 0
    return [min(max(0, offset - added), len(text)) for offset in offsets]


def name_of(token: TokenText) -> str:
    """As OpenAI writes tokens: their text, or the bytes of what is no text by itself."""
    try:
        return bytes(token.bytes).decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def _alternatives(one: TokenLogprob) -> dict[str, float]:
    """By name, of which two tokens may have one: the likelier counts."""
    found: dict[str, float] = {}
    for token in (*one.top, one.token):
        found.setdefault(name_of(token), max(LEAST, token.logprob))
    return found
