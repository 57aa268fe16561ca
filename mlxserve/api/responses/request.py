"""The body of POST /v1/responses, as types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlxserve.api.body import decode
from mlxserve.api.fields import Count, DrawFields, reasoning_variables
from mlxserve.api.form import JsonObject, NamedSchema, PlainText, ResponseFormat, grammar_of
from mlxserve.api.form import JsonSchema as ChatJsonSchema
from mlxserve.api.question import Question
from mlxserve.api.responses.conversation import as_messages
from mlxserve.api.responses.items import InputItem, Item
from mlxserve.api.responses.refusal import check_depth, typed, wrong
from mlxserve.api.responses.tools import Choice, Toolbox

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
LOGPROBS = "message.output_text.logprobs"
ANY = msgspec.json.Decoder(dict[str, Any])


class AnyJson(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class JsonSchema(msgspec.Struct, tag_field="type", tag="json_schema", omit_defaults=True):
    """Flat, other than in chat completions."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, omit_defaults=True):
    format: PlainText | AnyJson | JsonSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None


class StreamOptions(msgspec.Struct):
    """What would be obfuscated is not here."""

    include_obfuscation: bool | None = None


class ResponsesRequest(DrawFields, kw_only=True):
    """What OpenAI's reference names, as far as it can matter here, and the ways to draw tokens that chat takes.

    Other fields are ignored.
    """

    input: str | list[InputItem] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: Count | None = None
    text: TextOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    # What is kept elsewhere at OpenAI, and not here: refused.
    conversation: Any = None
    prompt: Any = None

    @property
    def stores(self) -> bool:
        """Whether the response can be asked for later."""
        return self.store is not False

    @property
    def top(self) -> int:
        """How many of the likeliest tokens are told in each place; -1 where no log-probabilities are."""
        wanted = LOGPROBS in (self.include or []) or self.top_logprobs
        return (self.top_logprobs or 0) if wanted else -1

    def toolbox(self) -> Toolbox:
        """The tools that can be offered. Raises ApiError."""
        return Toolbox(self.tools or [], self.tool_choice, self.parallel_tool_calls is not False)

    def question(self, items: Sequence[Item], toolbox: Toolbox) -> Question:
        """What is asked at the end of the conversation `items`. Raises ApiError."""
        messages = as_messages(items)
        if self.instructions:
            messages.insert(0, {"role": "system", "content": self.instructions})
        if not messages:
            raise wrong("input", "'input' has nothing in it that the model could read.")
        field, grammar = grammar_of({"text.format": self._format()})
        return Question(
            messages=messages,
            draw=self.draw(),
            max_tokens=self.max_output_tokens or 0,
            stop=self.stop_strings,
            tools=toolbox.for_template,
            tool_choice=toolbox.mode,
            parallel_tool_calls=toolbox.parallel,
            grammar=grammar,
            grammar_field=field,
            variables=reasoning_variables(self.reasoning.effort) if self.reasoning else {},
            top_logprobs=self.top,
            messages_field="input",
        )

    def _format(self) -> ResponseFormat | None:
        form = self.text.format if self.text else None
        match form:
            case JsonSchema():
                return ChatJsonSchema(NamedSchema(form.name, form.schema, form.strict))
            case AnyJson():
                return JsonObject()
        return form


def read_request(body: bytes) -> ResponsesRequest:
    """`body` as its type; raises ApiError where it is other, or asks for what contradicts itself or is not here."""
    fields = decode(body, ANY)
    if isinstance(given := fields.get("input"), list):
        fields["input"] = [_with_type(item) for item in given]
    request: ResponsesRequest = typed(fields, ResponsesRequest)
    check_depth(fields.get("text"), "text")
    for name in ("conversation", "prompt"):
        if getattr(request, name) is not None:
            message = f"'{name}' is not supported by this server: send the items themselves as 'input'."
            raise wrong(name, message, "unsupported_parameter")
    if request.input is None and request.previous_response_id is None:
        raise wrong("input", "'input' is required.", "missing_required_parameter")
    if request.background and not request.stores:
        raise wrong("background", "'background' needs 'store': the answer could not be asked for otherwise.")
    return request


def _with_type(item: Any) -> Any:
    """The type that OpenAI lets clients leave out."""
    if not isinstance(item, dict) or item.get("type") is not None:
        return item
    if "role" in item:
        return {**item, "type": "message"}
    return {**item, "type": "item_reference"} if item.keys() == {"id"} else item
