"""Forms that are guaranteed: whatever a small model writes at temperature 1 over two ranks is valid, and whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema

from tests.conftest import Shared
from tests.system.server import Server

SEEDS = range(10)
MAX_TOKENS = 48
STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}


def record(**properties: Any) -> dict[str, Any]:
    """An object with just these properties, all required."""
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


ADDRESS = record(street=STRING, zip={"type": "string", "pattern": "^[0-9]{5}$"})
NODE = record(value=INTEGER, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
SCHEMAS: dict[str, Any] = {
    "record": record(name=STRING, age={"type": "integer", "minimum": 0, "maximum": 120}),
    "optional": {**record(name=STRING, nick=STRING), "required": ["name"]},
    "enum": record(colour={"enum": ["red", "green", "blue"]}),
    "const": record(kind={"const": "cat"}, lives=INTEGER),
    "numbers": record(x={"type": "number", "minimum": -1.5, "maximum": 2.5}, y={"type": "number", "minimum": 3}),
    "integers": {"type": "array", "items": {"type": "integer", "minimum": 10, "maximum": 99}, "maxItems": 5},
    "strings": {"type": "array", "items": STRING, "minItems": 2, "maxItems": 4},
    "booleans": record(on={"type": "boolean"}, off={"type": "boolean"}, unset={"type": "null"}),
    "nested": record(a=record(b={"type": "array", "items": record(c={"type": "boolean"}), "maxItems": 3})),
    "anyOf": {"anyOf": [{"type": "string", "maxLength": 20}, INTEGER, {"type": "null"}]},
    "types": {"type": ["string", "integer", "boolean"]},
    "ref": {**record(home={"$ref": "#/$defs/address"}), "$defs": {"address": ADDRESS}},
    "recursive": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "pattern": record(id={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}),
    "date": record(day={"type": "string", "format": "date"}),
    "uuid": {"type": "string", "format": "uuid"},
    "lengths": record(code={"type": "string", "minLength": 3, "maxLength": 8}),
    "tuple": {"type": "array", "prefixItems": [STRING, INTEGER], "items": False, "minItems": 2},
    "map": {"type": "object", "additionalProperties": INTEGER},
    "anything": {"type": "object"},
}


def test_200_answers_under_20_schemas_are_all_valid(shared: Shared) -> None:
    found = asyncio.run(_answers(shared(2)))
    assert len(found) == len(SCHEMAS) * len(SEEDS) == 200
    for name, text in found:
        jsonschema.validate(json.loads(text), SCHEMAS[name], format_checker=jsonschema.FormatChecker())
    assert len({text for _, text in found}) > 100, "they are not all the shortest answer there is"


async def _answers(server: Server) -> list[tuple[str, str]]:
    async def ask(client: Any, name: str, seed: int) -> tuple[str, str]:
        answer = await client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "Tell me about somebody, as JSON."}],
            temperature=1,
            seed=seed,
            max_tokens=MAX_TOKENS,
            response_format={"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMAS[name]}},
        )
        return name, answer.choices[0].message.content

    async with server.async_client() as client:
        return await asyncio.gather(*(ask(client, name, seed) for name in SCHEMAS for seed in SEEDS))
