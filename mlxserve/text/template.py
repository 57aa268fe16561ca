"""From a chat to the prompt's token ids, by the model's chat template."""

from __future__ import annotations

from typing import Any

from mlxserve.errors import MlxserveError
from mlxserve.text.control_tokens import ControlTokens
from mlxserve.text.conversation import Message, arrangements, normalized

PLAIN_TEMPLATE = """\
{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}

{% endfor %}Assistant:"""
"""For models without a template of their own."""


class PromptRefused(MlxserveError):
    """The chat template does not take these messages; the message is for the client."""


class ChatTemplate:
    """Renders a chat and encodes it. Safe to use from several threads."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._control_tokens = ControlTokens(wrapper)

    def encode(self, messages: list[Message]) -> list[int]:
        """The prompt that asks for the next assistant message. Raises PromptRefused.

        Control tokens that are typed in a message stay text.
        """
        try:
            marked = [self._control_tokens.mark(message) for message in normalized(messages)]
            return self._control_tokens.encode(self._render(marked))
        except (ValueError, RecursionError) as error:  # a token that plain text makes; a tool call nested too deeply
            raise PromptRefused(f"The messages cannot be encoded: {error}.") from error

    def _render(self, messages: list[Message]) -> str:
        """By the first arrangement that the template takes without losing a system message."""
        system = [message["content"].strip() for message in messages if message["role"] == "system"]
        errors: list[Exception] = []
        incomplete: list[str] = []
        for arrangement in arrangements(messages):
            try:
                chat: str = self._wrapper.apply_chat_template(arrangement, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # a template may raise what it likes
                errors.append(error)
                continue
            if all(content in chat for content in system):
                return chat
            incomplete.append(chat)
        if incomplete:
            return incomplete[0]
        raise PromptRefused(f"The model's chat template refuses these messages: {errors[0]}") from errors[0]
