"""The body of POST /v1/chat/completions, as a type."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from mlxserve.api.errors import ApiError
from mlxserve.api.fields import CommonFields, Count, reasoning_variables
from mlxserve.api.messages import AnyMessage, AssistantMessage, for_template
from mlxserve.api.question import Question
from mlxserve.api.tools import Tool, ToolChoice, chosen
from mlxserve.api.tools import for_template as tool_for_template
from mlxserve.text.template import OWN_VARIABLES


class ChatRequest(CommonFields, kw_only=True):
    """What OpenAI's reference names, as far as it can matter here, and what vLLM and llama-server add.

    Other fields are ignored.
    """

    messages: Annotated[list[AnyMessage], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    # What would change the answer and cannot be done: refused unless it asks for nothing (see NOTHING).
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    chat_template: Any = None

    @property
    def continues(self) -> bool:
        """Whether the last message is the beginning of the answer."""
        last = self.messages[-1]
        begun = isinstance(last, AssistantMessage) and bool(last.content) and not last.tool_calls
        return begun and (bool(self.continue_final_message) or not self.add_generation_prompt)

    def question(self) -> Question:
        """What is asked. Raises ApiError where fields contradict each other."""
        if self.top_logprobs and not self.logprobs:
            raise ApiError(
                400, "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value"
            )
        field, grammar = self.form()
        tools, choice = chosen(self.tools or [], self.tool_choice)
        return Question(
            messages=[for_template(message) for message in self.messages],
            draw=self.draw(),
            max_tokens=self.max_completion_tokens or self.max_tokens or 0,
            stop=self.stop_strings,
            n=self.n or 1,
            tools=[tool_for_template(tool) for tool in tools],
            tool_choice=choice,
            parallel_tool_calls=self.parallel_tool_calls is not False,
            grammar=grammar,
            grammar_field=field,
            variables=self._variables(),
            continued=self.continues,
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else -1,
        )

    def _variables(self) -> dict[str, Any]:
        variables = dict(self.chat_template_kwargs or {})
        for name in variables:
            if name in OWN_VARIABLES:
                message = f"'chat_template_kwargs' must not set '{name}', which is the server's to set."
                raise ApiError(400, message, param="chat_template_kwargs", code="invalid_value")
        return reasoning_variables(self.reasoning_effort) | variables


NOTHING: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": ([], ["text"]),
    "audio": (),
    "web_search_options": (),
    "chat_template": (),
}
"""As in fields.NOTHING."""
