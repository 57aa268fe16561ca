"""Messages as chat templates take them, and the ways in which system messages can be presented to one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]
"""`role` and `content`, both strings, and for tools `tool_calls`, `tool_call_id` and `name`."""

# Claude Code begins its system prompt with this line, which differs in each request: no prefix would be found again.
BILLING_LINE = re.compile(r"\A\s*x-anthropic-billing-header:[^\n]*\n*")


def normalized(messages: list[Message]) -> list[Message]:
    """`messages` with developers called system, and without the line that changes with each request."""
    named = [_system(message) if message["role"] in ("system", "developer") else message for message in messages]
    return [message for message in named if message["role"] != "system" or message["content"]] or named


def arrangements(messages: list[Message]) -> Iterator[list[Message]]:
    """The ways to present `messages`, the truest first: some templates take one system message, at the front, or none.

    As they are, but for those at the front, which are joined; all joined at the front; all joined into the first
    user message.
    """
    front = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    yield _joined(messages[:front]) + messages[front:]
    system = [message for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    if len(system) > front:
        yield _joined(system) + others
    first_user = next((i for i, message in enumerate(others) if message["role"] == "user"), None)
    if system and first_user is not None:
        user = others[first_user]
        folded = {**user, "content": _text([*system, user])}
        yield [*others[:first_user], folded, *others[first_user + 1 :]]


def with_short_ids(messages: list[Message]) -> list[Message]:
    """`messages` with ids of calls as Mistral's templates want them: nine letters and digits."""
    return [_shortened(message) for message in messages]


def _shortened(message: Message) -> Message:
    changed = dict(message)
    if "tool_call_id" in message:
        changed["tool_call_id"] = _short(message["tool_call_id"])
    if calls := message.get("tool_calls"):
        changed["tool_calls"] = [{**call, "id": _short(call["id"])} for call in calls]
    return changed


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:9]


def _system(message: Message) -> Message:
    return {**message, "role": "system", "content": BILLING_LINE.sub("", message["content"])}


def _joined(system: list[Message]) -> list[Message]:
    return [{**system[0], "content": _text(system)}] if len(system) > 1 else system


def _text(messages: list[Message]) -> str:
    return "\n\n".join(message["content"] for message in messages if message["content"])
