"""From a chat to the prompt's token ids, by the model's chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mlxserve.errors import MlxserveError
from mlxserve.text.control_tokens import ControlTokens
from mlxserve.text.conversation import Message, arrangements, normalized, with_short_ids
from mlxserve.text.plain_tools import as_text, told

PLAIN_TEMPLATE = """\
{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}

{% endfor %}Assistant:"""
"""For models without a template of their own."""

OWN_VARIABLES = frozenset(
    {
        *("messages", "tools", "documents", "conversation", "chat_template", "add_generation_prompt", "tokenize"),
        *("continue_final_message", "return_dict", "return_tensors", "return_assistant_tokens_mask"),
        *("tokenizer_kwargs", "processor_kwargs", "padding", "truncation", "max_length"),
        *("bos_token", "eos_token", "pad_token", "unk_token"),
    }
)
"""What a request must not set: it is this server's, or transformers', to say."""


class PromptRefused(MlxserveError):
    """The chat template does not take these messages; the message is for the client."""


@dataclass(frozen=True)
class Chat:
    """What a template makes a prompt of."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template, such as `enable_thinking`; none of OWN_VARIABLES."""
    continued: bool = False
    """Whether the last message is the beginning of the answer, which goes on from there."""


class ChatTemplate:
    """Renders a chat and encodes it. Safe to use from several threads."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._control_tokens = ControlTokens(wrapper)

    def encode(self, chat: Chat, check: Callable[[str], None] = lambda text: None) -> list[int]:
        """The prompt that asks for the next assistant message, or for the rest of the last. Raises PromptRefused.

        Control tokens that are typed in a message stay text. `check` sees the text before it is encoded.
        """
        try:
            text = self.render(chat)
            check(text)
            return self._control_tokens.encode(text)
        except (ValueError, RecursionError) as error:  # a token that plain text makes; a tool call nested too deeply
            raise PromptRefused(f"The messages cannot be encoded: {error}.") from error

    def encode_plain(self, text: str) -> list[int]:
        """The tokens of `text` by itself, in which control tokens are text. Raises PromptRefused."""
        try:
            return self._control_tokens.encode(self._control_tokens.mark_all(text))
        except ValueError as error:
            raise PromptRefused(f"The text cannot be encoded: {error}.") from error

    def text(self, chat: Chat) -> str:
        """The prompt as text, in which typed control tokens look like the template's. Raises PromptRefused."""
        return self._control_tokens.without_marks(self.render(chat))

    @property
    def source(self) -> str:
        """The template as it is written, in Jinja; empty where it is a program."""
        return str(self._wrapper.chat_template or "")

    def render(self, chat: Chat) -> str:
        """The prompt as text, in which typed control tokens are marked. Raises PromptRefused."""
        mark = self._control_tokens
        tools = mark.mark_all(chat.tools)
        messages = [mark.mark(message) for message in normalized(chat.messages)]
        if tools and not self._knows_tools:
            messages, tools = told(messages, tools), []
        if not self._knows_results:
            messages = as_text(messages)
        variables = dict(mark.mark_all(dict(chat.variables)))
        if tools:
            variables["tools"] = tools
        if not chat.continued:
            return self._arranged(messages, variables | {"add_generation_prompt": True})
        return self._continued(messages, variables)

    def _continued(self, messages: list[Message], variables: dict[str, Any]) -> str:
        """As transformers continues a last message; where it cannot, the last message follows the generation prompt."""
        try:
            return self._arranged(messages, variables | {"continue_final_message": True})
        except PromptRefused:
            begun = self._arranged(messages[:-1], variables | {"add_generation_prompt": True})
            return begun + str(messages[-1]["content"])

    def _arranged(self, messages: list[Message], variables: dict[str, Any]) -> str:
        """By the first arrangement that the template takes without losing a system message."""
        system = [message["content"].strip() for message in messages if message["role"] == "system"]
        errors: list[Exception] = []
        incomplete: list[str] = []
        for arrangement in (*arrangements(messages), *arrangements(with_short_ids(messages))):
            try:
                chat: str = self._wrapper.apply_chat_template(arrangement, tokenize=False, **variables)
            except Exception as error:  # a template may raise what it likes
                errors.append(error)
                continue
            if all(content in chat for content in system):
                return chat
            incomplete.append(chat)
        if incomplete:
            return incomplete[0]
        raise PromptRefused(f"The model's chat template refuses these messages: {errors[0]}") from errors[0]

    @cached_property
    def _knows_tools(self) -> bool:
        """Whether the template writes the tools it is given into the prompt."""
        return any(PROBE in chat for chat in self._probe([USER], tools=[TOOL]))

    @cached_property
    def _knows_results(self) -> bool:
        """Whether the template writes calls and their results into the prompt."""
        return any(PROBE in chat and RESULT in chat for chat in self._probe([USER, CALL, ANSWER, USER]))

    def _probe(self, messages: list[Message], **variables: Any) -> Iterator[str]:
        try:
            yield self._wrapper.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables)
        except Exception:  # a template may raise what it likes: it does not know these
            return


PROBE, RESULT = "zqprobe", "zqresult"
"""Words that no template has by itself."""
USER: Message = {"role": "user", "content": "a"}
TOOL = {
    "type": "function",
    "function": {
        "name": PROBE,
        "description": "b",
        "parameters": {"type": "object", "properties": {"c": {"type": "string", "description": "d"}}, "required": []},
    },
}
CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "abcdef123", "type": "function", "function": {"name": PROBE, "arguments": {"c": "e"}}}],
}
ANSWER: Message = {"role": "tool", "content": RESULT, "tool_call_id": "abcdef123", "name": PROBE}
