"""How much of a chat's prompt all chats with the same system prompt and tools begin with."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock

import msgspec

from mlxserve.text.conversation import Message, normalized
from mlxserve.text.template import Chat, ChatTemplate, PromptRefused

_REMEMBERED = 8
_USERS: tuple[Message, Message] = ({"role": "user", "content": "a"}, {"role": "user", "content": "7"})
"""Where the prompts of these part, nothing depends on what the user says yet."""


class SharedBeginnings:
    """Finds them by rendering, and remembers the last few. Safe to use from several threads."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._known: OrderedDict[bytes, list[int]] = OrderedDict()
        self._lock = Lock()

    def borders(self, chat: Chat, prompt: list[int]) -> list[int]:
        """After how many tokens of `prompt`, which is that of `chat`, its shared beginning ends; at most one number."""
        leading = _leading_system(chat.messages)
        if not leading and not chat.tools:
            return []
        length = common_length(self._beginning(Chat(leading, chat.tools, chat.variables)), prompt)
        return [length] if 0 < length < len(prompt) else []

    def _beginning(self, chat: Chat) -> list[int]:
        """What prompts with the system messages, tools and variables of `chat` begin with."""
        key = hashlib.sha256(msgspec.json.encode([chat.messages, chat.tools, dict(chat.variables)])).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        beginning = self._rendered(chat)
        with self._lock:
            self._known[key] = beginning
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return beginning

    def _rendered(self, chat: Chat) -> list[int]:
        try:
            one, other = (
                self._template.encode(Chat([*chat.messages, user], chat.tools, chat.variables)) for user in _USERS
            )
        except PromptRefused:  # a template that wants more than this
            return []
        return one[: common_length(one, other)]


def common_length(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    for length, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return length
    return min(len(one), len(other))


def _leading_system(messages: list[Message]) -> list[Message]:
    """Those before anybody else speaks, as the template gets them."""
    count = next((i for i, one in enumerate(messages) if one["role"] not in ("system", "developer")), len(messages))
    return normalized(messages[:count]) if count else []
