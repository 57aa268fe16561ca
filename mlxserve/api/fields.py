"""Fields that several requests have in common, and their types."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlxserve.api.errors import ApiError
from mlxserve.api.form import Choices, Grammar, ResponseFormat, Schema, StructuredOutputs, grammar_of
from mlxserve.api.question import Draw

StopString = Annotated[str, Meta(min_length=1)]
Stop = str | Annotated[list[StopString], Meta(max_length=16)]
Count = Annotated[int, Meta(ge=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
TopP = Annotated[float, Meta(gt=0, le=1)]
TopK = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Answers = Annotated[int, Meta(ge=1, le=64)]
Bias = Annotated[float, Meta(ge=-100, le=100)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


class DrawFields(msgspec.Struct, kw_only=True):
    """How tokens are drawn, and where an answer ends."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    logit_bias: Annotated[dict[str, Bias], Meta(max_length=1024)] | None = None
    stop: Stop | None = None

    @property
    def stop_strings(self) -> list[str]:
        """None of them empty, though a lone empty string is taken for no stop string at all."""
        if isinstance(self.stop, str):
            return [self.stop] if self.stop else []
        return self.stop or []

    def draw(self) -> Draw:
        """How tokens are drawn. Raises ApiError."""
        names = [name for name in Draw.__struct_fields__ if name != "logit_bias"]
        return Draw(**{name: getattr(self, name) for name in names}, logit_bias=_bias(self.logit_bias))


class CommonFields(DrawFields, kw_only=True):
    """What requests of OpenAI's older APIs have in common, with what vLLM and llama-server add."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    return_progress: bool | None = False
    """llama-server's: whether a stream tells how far the prompt is read."""
    n: Answers | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | str | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    json_schema: Schema | None = None
    grammar: str | None = None

    # What would change the answer and cannot be done: refused unless it asks for nothing (see NOTHING).
    xtc_probability: float | None = None
    adapters: Any = None
    draft_model: Any = None

    @property
    def includes_usage(self) -> bool:
        """Whether a streamed answer ends with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def form(self) -> tuple[str, Grammar | None]:
        """The field that asks for a form, and what makes its grammar. Raises ApiError where several do."""
        return grammar_of({name: getattr(self, name) for name in FORM_FIELDS})


FORM_FIELDS = (
    *("response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("json_schema", "grammar"),
)
NOTHING: dict[str, tuple[Any, ...]] = {"xtc_probability": (0,), "adapters": (), "draft_model": ()}
"""For each field that cannot be served, the values, besides null, that ask for nothing."""


def refuse_unsupported(request: CommonFields, nothing: dict[str, tuple[Any, ...]]) -> None:
    """400, naming the first field of `nothing`, or of NOTHING, that asks for what this server cannot do."""
    for field, values in (nothing | NOTHING).items():
        value = getattr(request, field)
        if value is not None and value not in values:
            message = f"'{field}' is not supported by this server with the value given: leave it out."
            raise ApiError(400, message, param=field, code="unsupported_parameter")


def reasoning_variables(effort: str | None) -> dict[str, Any]:
    """What chat templates know an effort by: some its name, most whether to think at all."""
    if effort is None:
        return {}
    return {"reasoning_effort": effort, "enable_thinking": effort not in ("none", "minimal")}


def _bias(biases: dict[str, float] | None) -> dict[int, float] | None:
    if biases is None:
        return None
    for token in biases:
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            message = f"'logit_bias' must name tokens by their numbers, not {token[:20]!r}."
            raise ApiError(400, message, param="logit_bias", code="invalid_value")
    return {int(token): bias for token, bias in biases.items()}
