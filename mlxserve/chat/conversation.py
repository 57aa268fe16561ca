"""A conversation: what was said, and the request that its next answer is asked for with."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant"]


class Said(msgspec.Struct, frozen=True):
    """One message, as the API has it."""

    role: Role
    content: str


class Conversation:
    """Grows by questions and answers; its system prompt and its settings can change on the way."""

    def __init__(self, model: str, system: str = "", settings: dict[str, Any] | None = None) -> None:
        self.model = model
        self.system = system
        self.settings: dict[str, Any] = settings or {}
        """Fields of the request: temperature, top_p, max_tokens, seed."""
        self.messages: list[Said] = []

    def ask(self, question: str) -> None:
        """Say something as the user."""
        self.messages.append(Said("user", question))

    def answered(self, text: str) -> None:
        """Keep an answer, or what there is of it; without any, the question is taken back."""
        if text:
            self.messages.append(Said("assistant", text))
        else:
            self.messages.pop()

    def again(self) -> bool:
        """Forget the last answer, so that the question before it is open again. Returns whether there was one."""
        if not self.messages:
            return False
        self.messages.pop()
        return True

    def clear(self) -> None:
        """Forget all that was said; system prompt and settings stay."""
        self.messages.clear()

    def body(self) -> bytes:
        """The request for the next answer, streamed, as JSON."""
        system = [Said("system", self.system)] if self.system else []
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(
            {"model": self.model, "messages": [*system, *self.messages], **self.settings, **options}
        )

    def text(self) -> str:
        """All of it as Markdown."""
        system = [Said("system", self.system)] if self.system else []
        return "\n\n".join(f"## {said.role}\n\n{said.content}" for said in [*system, *self.messages]) + "\n"
