"""Grammars that an answer must follow: llguidance says which tokens may come next."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

_ENDS_STRINGS = ('"}', '"]', '"')
_ENDS_OTHERS = ("}", "]", '"', ",", ":", "null", "n", "0", "1", "3", "5", "true", "false", "{", "[")
"""What brings JSON to its end sooner, the best first, within strings and elsewhere; else anything but space does."""
_ONLY_IN_STRINGS = "~"
_LONGEST_ENDING = 400
"""Tokens in which an answer must be able to end; no search goes further."""
_LOOKS_EVERY = 16
"""Tokens after which the way to the end is looked up again; near the bound after each."""
_MOST_DETOURS = 64
"""Tokens that are tried for where they lead, each in some hundred microseconds; of more, none is allowed."""


class Tokens:
    """A tokenizer as llguidance sees it, and its tokens by which answers are brought to an end."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self.tokenizer = tokenizer
        self.count: int = tokenizer.vocab_size
        self._in_strings = self._single(_ENDS_STRINGS)
        self._elsewhere = self._single(_ENDS_OTHERS)
        self._only_in_strings = self._single((_ONLY_IN_STRINGS,))
        space = LLMatcher(tokenizer, LLMatcher.grammar_from_regex(r"\s+"), log_level=0)
        self._no_space = ~bits(space.compute_bitmask(), self.count)
        texts = [tokenizer.decode_str([token]) for token in range(self.count)]
        self.opening = np.array([any(mark in text for mark in ",{[") for text in texts], np.bool_)
        """Tokens after which there may be more to write than before."""
        self.quoted = np.array(['"' in text for text in texts], np.bool_)

    def closing(self, allowed: NDArray[np.bool_]) -> int:
        """The one among `allowed` that is likeliest to bring the end nearer."""
        better = allowed & self._no_space
        if not better.any():
            better = allowed
        closing = self._in_strings if self.in_string(better) else self._elsewhere
        return next((token for token in closing if better[token]), int(np.argmax(better)))

    def in_string(self, allowed: NDArray[np.bool_]) -> bool:
        """Whether what is `allowed` goes on with a string of JSON."""
        return any(allowed[token] for token in self._only_in_strings)

    def _single(self, texts: tuple[str, ...]) -> list[int]:
        """Those of `texts` that are one token."""
        found = (self.tokenizer.tokenize_str(text) for text in texts)
        return [tokens[0] for tokens in found if len(tokens) == 1]


class Matcher:
    """Where one answer is in its grammar.

    An answer that comes near its bound on tokens is led to its end while there is room, so that it is whole.
    """

    def __init__(self, tokens: Tokens, grammar: str, stop_tokens: frozenset[int]) -> None:
        """Takes about a millisecond, seconds for extreme grammars; other threads run meanwhile."""
        self._matcher = LLMatcher(tokens.tokenizer, grammar, log_level=0)
        self._stop_tokens = sorted(stop_tokens)
        self._tokens = tokens
        self._ending: list[int] = []
        self._way: list[int] | None = None
        self._whole = 0
        self._margin = 0
        self._drawn = 0

    @property
    def error(self) -> str:
        """Why the grammar cannot be followed (any more), for the client; empty if it can."""
        return f"the grammar cannot be followed: {self._matcher.get_error()}" if self._matcher.is_error() else ""

    def allowed(self, width: int, left: int) -> NDArray[np.bool_]:
        """Which of `width` tokens may come next, when `left` are left with it; after an error, all."""
        self._look_ahead(left)
        if self._ending:
            mask = np.zeros(width, np.bool_)
            mask[self._ending[0]] = True
            return mask
        mask = self._mask(self._matcher, width)
        if self._matcher.is_error():
            return ~np.zeros(width, np.bool_)
        if self._way and left <= len(self._way) + self._whole + self._margin:
            self._forbid_detours(mask, left)
        return mask

    def accept(self, token: int) -> None:
        """`token`, which is no stop token, was drawn."""
        self._ending = self._ending[1:]
        self._matcher.consume_token(token)

    def fork(self) -> Matcher:
        """Another matcher, at the same place."""
        other = copy.copy(self)
        other._matcher = self._matcher.deep_copy()
        return other

    def forced(self) -> list[int]:
        """Tokens that must follow, or nearly so: their text must, which other tokens could make up too."""
        if self._ending or self._matcher.is_error() or self._matcher.is_stopped():
            return self._ending
        return list(self._matcher.compute_ff_tokens())

    def permitted(self, tokens: list[int]) -> list[int]:
        """The first of `tokens` that may follow."""
        return tokens[: self._matcher.validate_tokens(tokens)]

    def _look_ahead(self, left: int) -> None:
        """Choose the ending when there is room for no detour any more."""
        if self._ending:
            return
        if self._way is None:  # what a token adds is at most what the answer itself needs, mostly
            self._way = self._find_ending()
            self._whole = len(self._way)
            self._margin = 2 + min(self._whole, left // 8)
        self._drawn += 1
        if left <= 2 * (len(self._way) + self._margin + _LOOKS_EVERY) or self._drawn % _LOOKS_EVERY == 0:
            self._way = self._find_ending()
        if self._way and left <= len(self._way) + self._margin:
            self._ending = self._way  # which was looked up just now

    def _forbid_detours(self, mask: NDArray[np.bool_], left: int) -> None:
        """Take from `mask` the tokens that open more than can be closed in time: another element, another object."""
        tokens = self._tokens
        known = min(len(mask), tokens.count)
        opening = mask[:known] & tokens.opening[:known]
        if tokens.in_string(mask):  # a string can be ended by its quote alone
            mask[:known] &= ~(opening & tokens.quoted[:known])
            return
        candidates = np.flatnonzero(opening)
        if len(candidates) > _MOST_DETOURS:
            mask[candidates], candidates = False, candidates[:0]
        for token in candidates:
            after = self._matcher.deep_copy()
            after.consume_token(int(token))
            way = self._find_ending(after)
            if not way or len(way) + 1 > left:
                mask[token] = False
        if not mask.any() and self._way:
            mask[self._way[0]] = True

    def _find_ending(self, start: LLMatcher | None = None) -> list[int]:
        """A short way to the end from here, or from `start`, a stop token its last; empty where none is found."""
        matcher, ending = start or self._matcher.deep_copy(), list[int]()
        while len(ending) < _LONGEST_ENDING and not matcher.is_error():
            if matcher.is_accepting() or matcher.is_stopped():
                return [*ending, *self._stop_tokens[:1]]
            token = self._tokens.closing(self._mask(matcher, self._tokens.count))
            if not matcher.consume_token(token):
                break
            ending.append(token)
        return []

    def _mask(self, matcher: LLMatcher, width: int) -> NDArray[np.bool_]:
        mask = np.zeros(width, np.bool_)
        if not matcher.is_stopped():
            known = min(width, self._tokens.count)
            mask[:known] = bits(matcher.compute_bitmask(), known)
        if matcher.is_accepting() or matcher.is_stopped():
            mask[[token for token in self._stop_tokens if token < width]] = True
        return mask


def bits(mask: bytes, count: int) -> NDArray[np.bool_]:
    """The first `count` bits of llguidance's `mask`."""
    return np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little", count=count).astype(np.bool_)


def load_tokens(folder: Path, stop_tokens: frozenset[int]) -> Tokens:
    """llguidance's view of the tokenizer in `folder`. Takes about a second. Raises ValueError for slow tokenizers."""
    from llguidance.hf import from_tokenizer
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    return Tokens(from_tokenizer(tokenizer, eos_token=sorted(stop_tokens) or None))
