"""Keeping what somebody typed from becoming control tokens, whatever the chat template is."""

from __future__ import annotations

import re
from typing import Any

from mlxserve.text.conversation import Message


class ControlTokens:
    """Marks control tokens in messages, and encodes a rendered chat with the marked ones as plain text.

    The marks are two private-use characters around each, set and read by transformers: what the template writes itself
    is unmarked and becomes control tokens, and text without any is encoded in one piece, exactly as ever.
    """

    def __init__(self, wrapper: Any) -> None:
        from transformers.utils.chat_template_utils import encode_marked_chat, mark_control_tokens

        self._mark, self._encode = mark_control_tokens, encode_marked_chat
        self._tokenizer = wrapper._tokenizer
        tokens = _control_tokens(wrapper)
        self._typed = _any_of(tokens)
        # A client sends an answer back with its thoughts in it, and templates cut those out by their marks.
        self._answered = _any_of(tokens - {wrapper.think_start, wrapper.think_end})

    def mark(self, message: Message) -> Message:
        """A copy of `message` in which control tokens are marked, in all its strings."""
        tokens = self._answered if message["role"] == "assistant" else self._typed
        marked: Message = self._marked(message, tokens)
        return marked

    def mark_all(self, value: Any) -> Any:
        """A copy of `value`, anything that JSON can say, in which control tokens are marked."""
        return self._marked(value, self._typed)

    def encode(self, chat: str) -> list[int]:
        """The token ids of a chat that was rendered from marked messages."""
        ids: list[int] = self._encode(self._tokenizer, chat)
        return ids

    def without_marks(self, chat: str) -> str:
        """A rendered chat with nothing but its text: marking drops whatever is marked already."""
        unmarked: str = self._mark(chat, _any_of(set()))
        return unmarked

    def _marked(self, value: Any, tokens: re.Pattern[str]) -> Any:
        """transformers' marks leave names of fields alone, which clients choose too."""
        if isinstance(value, dict):
            return {self._mark(name, tokens): self._marked(one, tokens) for name, one in value.items()}
        if isinstance(value, list):
            return [self._marked(one, tokens) for one in value]
        return self._mark(value, tokens)


def _control_tokens(wrapper: Any) -> set[str]:
    """Special tokens, and added ones that template or answers are structured by; Gemma's HTML and newlines are text."""
    in_python = wrapper._chat_template is not None
    template = str(wrapper.chat_template or "")
    structure = {wrapper.think_start, wrapper.think_end, wrapper.tool_call_start, wrapper.tool_call_end}
    added = [token for token in wrapper.added_tokens_decoder.values() if not token.content.isspace()]
    return {
        token.content
        for token in added
        if token.special or in_python or token.content in template or token.content in structure
    }


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
