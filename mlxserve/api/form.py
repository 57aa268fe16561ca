"""The form that an answer must have: `response_format`, and what vLLM and llama-server add to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlxserve.api.errors import ApiError
from mlxserve.text.grammar import (
    ANY_OBJECT,
    GrammarRefused,
    choice_grammar,
    json_grammar,
    regex_grammar,
    written_grammar,
)

Grammar = Callable[[], str]
Schema = dict[str, Any] | bool
Choices = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]


class PlainText(msgspec.Struct, tag_field="type", tag="text"):
    pass


class JsonObject(msgspec.Struct, tag_field="type", tag="json_object"):
    schema: Schema | None = None
    """llama-server's."""


class NamedSchema(msgspec.Struct):
    name: str = ""
    schema: Schema = msgspec.field(default_factory=lambda: dict(ANY_OBJECT))
    strict: bool | None = None


class JsonSchema(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: NamedSchema


ResponseFormat = PlainText | JsonObject | JsonSchema


class StructuredOutputs(msgspec.Struct):
    """vLLM's; one of them."""

    json: Schema | str | None = None
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


def grammar_of(fields: dict[str, Any]) -> tuple[str, Grammar | None]:
    """The one field that asks for a form, and what makes its grammar; raises ApiError where several do.

    `fields` are those of a request by name: `response_format`, `structured_outputs`, `json_schema`, `grammar` and
    `guided_…`; None where one is absent.
    """
    wanted = [(name, made) for name, value in fields.items() if value is not None for made in _grammars(name, value)]
    if len(wanted) > 1:
        names = " and ".join(f"'{name}'" for name, _ in wanted[:2])
        raise ApiError(400, f"{names} exclude each other.", param=wanted[1][0], code="invalid_value")
    return wanted[0] if wanted else ("", None)


def made(field: str, grammar: Grammar) -> str:
    """What `grammar` makes. Raises ApiError, which blames `field`, where such answers cannot be guaranteed."""
    try:
        return grammar()
    except GrammarRefused as error:
        message = f"'{field}' asks for what cannot be guaranteed: {error}."
        raise ApiError(400, message, param=field, code="unsupported_schema") from None


def _grammars(name: str, value: Any) -> list[Grammar]:
    match value:
        case PlainText():
            return []
        case JsonObject():
            return [lambda: json_grammar(ANY_OBJECT if value.schema is None else value.schema)]
        case JsonSchema():
            return [lambda: json_grammar(value.json_schema.schema)]
        case StructuredOutputs():
            return [made for kind in value.__struct_fields__ for made in _one(kind, getattr(value, kind))]
    return _one(name.removeprefix("guided_"), value)


def _one(kind: str, value: Any) -> list[Grammar]:
    if value is None or value is False or value == "":
        return []
    made: dict[str, Grammar] = {
        "json": lambda: json_grammar(_schema(value)),
        "json_schema": lambda: json_grammar(value),
        "json_object": lambda: json_grammar(ANY_OBJECT),
        "regex": lambda: regex_grammar(value),
        "choice": lambda: choice_grammar(value),
        "grammar": lambda: written_grammar(value),
    }
    return [made[kind]]


def _schema(value: Schema | str) -> Schema:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise GrammarRefused(f"the schema is no JSON: {error}") from None
