"""The bytes that a token stands for, a part of a character among them."""

from __future__ import annotations

import re
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"
"""How SentencePiece writes a space."""


class TokenBytes:
    """By the way in which the tokenizer writes its tokens: bytes as letters (ByteLevel), or SentencePiece's."""

    def __init__(self, wrapper: Any) -> None:
        from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, _byte_decoder

        self._tokenizer = wrapper._tokenizer
        self._added = {number: token.content for number, token in wrapper.added_tokens_decoder.items()}
        self._found: dict[int, bytes] = {}
        """Looked up already: thousands are asked for with a prompt's log-probabilities."""
        by_letter = isinstance(wrapper._detokenizer, BPEStreamingDetokenizer)
        self._byte_of_letter: dict[str, int] | None = _byte_decoder() if by_letter else None

    def of(self, token: int) -> bytes:
        """The bytes of `token`; none for a number beyond the tokenizer's tokens, which some models can draw."""
        found = self._found.get(token)
        if found is None:
            found = self._found[token] = self._look_up(token)
        return found

    def _look_up(self, token: int) -> bytes:
        if token in self._added:
            return str(self._added[token]).encode()
        written: str | None = self._tokenizer.convert_ids_to_tokens(token)
        if written is None:
            return b""
        if self._byte_of_letter is not None:
            return bytes(self._byte_of_letter.get(letter, 0x3F) for letter in written)
        if one := _BYTE.fullmatch(written):
            return bytes([int(one[1], 16)])
        return written.replace(_SPACE, " ").encode()
