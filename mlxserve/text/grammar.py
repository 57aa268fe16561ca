"""Grammars for answers that must have a form: made and checked here, followed by the engine."""

from __future__ import annotations

import json
from typing import Any

from mlxserve.errors import MlxserveError
from mlxserve.text.format import OutputFormat, Tools

ANY_OBJECT: dict[str, Any] = {"type": "object"}
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As json.dumps writes. With free space between tokens small models go on with nothing but that."""


class GrammarRefused(MlxserveError):
    """Such answers cannot be guaranteed; the message is for the client."""


def json_grammar(schema: dict[str, Any] | bool) -> str:
    """Answers that are JSON and fit `schema`."""
    from llguidance import LLMatcher

    if schema is False:
        raise GrammarRefused("nothing fits the schema 'false'")
    try:
        text = json.dumps({} if schema is True else schema)
        return _checked(LLMatcher.grammar_from_json_schema(text, defaults=_COMPACT))  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise GrammarRefused(f"the schema cannot be read: {error}") from error


def regex_grammar(pattern: str) -> str:
    """Answers that match `pattern`, in Rust's syntax, as a whole."""
    from llguidance import LLMatcher

    return _checked(LLMatcher.grammar_from_regex(pattern))


def written_grammar(text: str) -> str:
    """Answers that follow a grammar in llama.cpp's GBNF or llguidance's Lark."""
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

    try:
        return _checked(LLMatcher.grammar_from_lark(any_to_lark(text)))
    except (GbnfToLarkError, ValueError, IndexError, RecursionError) as error:
        raise GrammarRefused(f"the grammar cannot be read: {error}") from error


def choice_grammar(choices: list[str]) -> str:
    """Answers that are one of `choices`."""
    from llguidance import LLMatcher

    alternatives = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    return _checked(LLMatcher.grammar_from_lark(f"start: {alternatives}"))


def calls_schema(tools: Tools, parallel: bool) -> dict[str, Any]:
    """What one or, if `parallel`, several calls of `tools` look like: a list of names with arguments."""
    definitions = {f"tool{number}": _relocated(_parameters(tool), number) for number, tool in enumerate(tools)}
    calls = [_call_schema(tool["function"]["name"], f"tool{number}") for number, tool in enumerate(tools)]
    listed = {"type": "array", "items": {"anyOf": calls}, "minItems": 1, "$defs": definitions}
    return listed if parallel else listed | {"maxItems": 1}


def after_reasoning(grammar: str, format: OutputFormat, think_end_ids: list[int]) -> str:
    """`grammar`, to be followed once the model's reasoning, in which the prompt ends, is over."""
    try:
        answer = json.loads(grammar)["grammars"][0]
    except (ValueError, KeyError, TypeError):
        answer = {"lark_grammar": grammar}
    if len(think_end_ids) == 1:
        start = f"start: THINKING <[{think_end_ids[0]}]> SPACE @answer\nTHINKING: /(.|\\n)*/\nSPACE: /\\n{{0,2}}/\n"
    else:
        end = json.dumps(format.think_end)
        start = f"start: thinking SPACE @answer\nthinking[suffix={end}]: /(.|\\n)*/\nSPACE: /\\n{{0,2}}/\n"
    return json.dumps({"grammars": [{"lark_grammar": start}, {**answer, "name": "answer"}]})


def _call_schema(name: str, definition: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{definition}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _parameters(tool: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = tool["function"].get("parameters") or ANY_OBJECT
    return parameters


def _relocated(schema: Any, number: int) -> Any:
    """`schema`, whose references begin at its own root, as the definition of a tool within another schema."""
    if isinstance(schema, list):
        return [_relocated(one, number) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _relocated(one, number) for name, one in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = f"#/$defs/tool{number}{reference[1:]}"
    return moved


def _checked(grammar: str) -> str:
    from llguidance import LLMatcher

    if error := LLMatcher.validate_grammar(grammar):
        raise GrammarRefused(" ".join(error.split()))
    return grammar
