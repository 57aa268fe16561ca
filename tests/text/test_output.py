from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxserve.text.output import OutputReader
from mlxserve.text.pieces import Content
from mlxserve.text.stops import StopStrings
from mlxserve.text.tokenizer import Tokenizer

AB = st.text("ab", max_size=12)


def test_text_is_held_back_only_while_it_may_be_the_start_of_a_stop_string() -> None:
    stops = StopStrings(["\n\nUser:"])
    fed = [stops.feed(text) for text in ("Hello", "\n", "world", "\n\nUs", "es", "\n\nUser", ":", "more")]
    assert fed == ["Hello", "", "\nworld", "", "\n\nUses", "", "", ""]
    assert stops.found


def test_a_run_of_a_stop_strings_first_letter_is_not_held_back_whole() -> None:
    stops = StopStrings(["aab"])
    assert [stops.feed("a") for _ in range(5)] == ["", "", "a", "a", "a"]
    assert stops.feed("b") == ""
    assert stops.found


@given(AB, st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
@settings(deadline=None)
def test_stop_strings_do_not_depend_on_how_the_text_is_cut(text: str, strings: list[str], data: st.DataObject) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in strings if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    stops = StopStrings(strings)
    out = "".join(stops.feed(text[a:b]) for a, b in pairwise([0, *cuts, len(text)]))
    assert out + ("" if stops.found else stops.flush()) == expected
    assert stops.found == bool(ends)


@given(st.text(), st.lists(st.text(min_size=1, max_size=5), max_size=4), st.data())
@settings(deadline=None)
def test_an_answer_does_not_depend_on_how_its_tokens_come(
    tokenizer: Tokenizer, plain: Any, text: str, stop: list[str], data: st.DataObject
) -> None:
    tokens = plain.encode(text, add_special_tokens=False)
    together = OutputReader(tokenizer.detokenizer(), stop)
    whole = _text(together.read(tokens)) + ("" if together.stopped else _text(together.finish()))
    cuts = data.draw(st.lists(st.integers(0, len(tokens)), max_size=6).map(sorted))
    apart = OutputReader(tokenizer.detokenizer(), stop)
    pieces = [apart.read(tokens[a:b]) for a, b in pairwise([0, *cuts, len(tokens)]) if not apart.stopped]
    assert "".join(map(_text, pieces)) + ("" if apart.stopped else _text(apart.finish())) == whole
    assert not any(stopping in whole for stopping in stop)
    assert apart.tokens_read == together.tokens_read


@pytest.mark.parametrize("text", ["日本語のテキスト", "🎉👩‍👩‍👧‍👦🇫🇷", "naïve café", "mixed 中 a 😀"])
def test_no_character_is_ever_split(tokenizer: Tokenizer, plain: Any, text: str) -> None:
    reader = OutputReader(tokenizer.detokenizer(), [])
    tokens = plain.encode(text, add_special_tokens=False)
    pieces = [_text(reader.read([token])) for token in tokens]
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + _text(reader.finish()) == text


def test_a_character_that_is_never_completed_is_replaced_at_the_end(tokenizer: Tokenizer, plain: Any) -> None:
    reader = OutputReader(tokenizer.detokenizer(), [])
    *first, _ = plain.encode("ok 🎉", add_special_tokens=False)
    assert _text(reader.read(first)) + _text(reader.finish()) == "ok \ufffd"


def _text(pieces: list[Any]) -> str:
    return "".join(piece.text for piece in pieces)


@given(
    text=st.text("abEND \n🎉<think></think>.", max_size=20).map(lambda text: text + "END"),
    cuts=st.lists(st.integers(1, 4), max_size=12),
    stop=st.sampled_from([[], ["END"], [".", "ND"]]),
)
def test_log_probabilities_do_not_depend_on_how_tokens_come(
    tokenizer: Tokenizer, plain: Any, text: str, cuts: list[int], stop: list[str]
) -> None:
    tokens = plain.encode(text, add_special_tokens=False)
    told = [tokenizer.logprob(token, -1.0 * number, []) for number, token in enumerate(tokens)]
    whole = _logprobs(OutputReader(tokenizer.detokenizer(), stop, tokenizer.format), tokens, told, [len(tokens)])
    assert _logprobs(OutputReader(tokenizer.detokenizer(), stop, tokenizer.format), tokens, told, cuts) == whole


def _logprobs(reader: OutputReader, tokens: list[int], told: list[Any], cuts: list[int]) -> list[Any]:
    pieces: list[Any] = []
    while tokens and not reader.stopped:
        size = cuts[0] if cuts else 1
        pieces += reader.read(tokens[:size], told[:size])
        tokens, told, cuts = tokens[size:], told[size:], cuts[1:]
    pieces += [] if reader.stopped else reader.finish()
    return [one for piece in pieces if isinstance(piece, Content) for one in piece.logprobs]
