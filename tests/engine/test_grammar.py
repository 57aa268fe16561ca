from __future__ import annotations

import json
import re

import pytest
from llguidance import LLMatcher, LLTokenizer

from mlxserve.engine.grammar import Matcher, Tokens
from mlxserve.engine.messages import Sampling
from mlxserve.engine.sequence import Sequence
from mlxserve.text.grammar import json_grammar
from tests.engine.tiny import Log, alone, scheduler, submit

TOKENIZER = LLTokenizer("byte")
TOKENS = Tokens(TOKENIZER)
NODE: dict[str, object] = {
    "type": "object",
    "properties": {
        "value": {"type": "number", "minimum": 3},
        "words": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
    },
    "required": ["value", "words", "next"],
    "additionalProperties": False,
}
STOP = TOKENIZER.eos_token
PROMPT = [7, 3, 200, 41, 5]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "size": {"enum": ["small", "large"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}


def following(number: int, grammar: str, tokens: int = 120, seed: int = 1) -> Sequence:
    """A sequence that is to follow `grammar`, at temperature 1."""
    sequence = submit(number, PROMPT, tokens, Sampling(seed, 1.0), STOP)
    sequence.matcher = Matcher(TOKENS, grammar, sequence.stop_tokens)
    return sequence


def text(tokens: list[int]) -> str:
    assert tokens[-1] == STOP
    return bytes(tokens[:-1]).decode()


@pytest.mark.parametrize("seed", range(8))
def test_a_random_model_writes_what_the_schema_wants(seed: int) -> None:
    grammar = LLMatcher.grammar_from_json_schema(SCHEMA, {"whitespace_flexible": False})
    found = json.loads(text(alone(following(1, grammar, seed=seed))))
    assert set(found) == {"name", "size"}
    assert len(found["name"]) <= 5
    assert found["size"] in ("small", "large")


def test_regular_expressions_are_followed_in_a_batch_with_free_sequences() -> None:
    pattern = r"(ab|cd){3}-[0-9]{4}"
    free = [submit(number, PROMPT, 30, Sampling(number, 1.0)) for number in (1, 2)]
    apart = {one.id: alone(submit(one.id, PROMPT, 30, one.sampling)) for one in free}
    engine = scheduler()
    for one in free:
        engine.add(one)
    log = Log()
    for _ in range(5):
        log.step(engine)
    for number in (3, 4, 5):
        engine.add(following(number, LLMatcher.grammar_from_regex(pattern), seed=number))
    log.run(engine)
    assert {number: log.tokens[number] for number in (1, 2)} == apart
    for number in (3, 4, 5):
        assert re.fullmatch(pattern, text(log.tokens[number]))
        assert log.finish[number] == "stop"


@pytest.mark.parametrize("tokens", [60, 100, 200])
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_answer_without_bounds_of_its_own_ends_in_time_and_whole(tokens: int, spaced: bool, seed: int) -> None:
    tree = {"$ref": "#/$defs/node", "$defs": {"node": NODE}}
    grammar = LLMatcher.grammar_from_json_schema(tree) if spaced else json_grammar(tree)
    found = text(alone(following(1, grammar, tokens, seed)))
    assert set(json.loads(found)) == {"value", "words", "next"}


def test_what_cannot_end_in_time_is_cut_off() -> None:
    assert bytes(alone(following(1, LLMatcher.grammar_from_regex("xyz{50}"), tokens=4))).startswith(b"xyzz")


def test_a_grammar_that_cannot_be_read_is_an_error() -> None:
    assert "cannot be followed" in Matcher(TOKENS, LLMatcher.grammar_from_regex("(a"), frozenset([STOP])).error


def test_a_sequence_whose_grammar_breaks_fails_alone() -> None:
    engine = scheduler()
    broken = following(1, LLMatcher.grammar_from_regex("a{500}"))
    assert broken.matcher
    broken.matcher.accept(ord("b"))
    engine.add(broken)
    engine.add(submit(2, PROMPT))
    log = Log().run(engine)
    assert "cannot be followed" in log.failed[1]
    assert 1 not in log.tokens
    assert len(log.tokens[2]) == 12


@pytest.mark.parametrize("tokens", [70, 90, 110, 130, 150])
def test_no_element_is_begun_that_cannot_be_ended(tokens: int) -> None:
    calls = {"type": "array", "items": {**SCHEMA, "additionalProperties": False}, "minItems": 1}
    found = json.loads(text(alone(following(1, json_grammar(calls), tokens, seed=tokens))))
    assert len(found) >= 1
    assert all(set(one) == {"name", "size"} for one in found)
