from __future__ import annotations

import random
from collections.abc import Callable
from statistics import geometric_mean

import pytest
from llguidance import LLMatcher, LLTokenizer

from mlxserve.engine.grammar import Matcher, Tokens
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.speculation import Speculation
from mlxserve.engine.verification import Guesses, Verdict
from tests.engine.tiny import submit

LIKE_MEASURED = {1: 1.0, 4: 1.0, 8: 1.5, 16: 1.9, 32: 3.0, 512: 40.0}
"""Seconds of passes by tokens."""


def measured(tokens: int) -> float:
    below = max(known for known in LIKE_MEASURED if known <= tokens)
    above = min((known for known in LIKE_MEASURED if known >= tokens), default=below)
    share = (tokens - below) / (above - below) if above > below else 0.0
    return LIKE_MEASURED[below] + share * (LIKE_MEASURED[above] - LIKE_MEASURED[below])


def linear(tokens: int) -> float:
    return float(tokens)


class Writing:
    """Sequences that write given answers, one token or several a pass, and the seconds that this takes."""

    def __init__(self, prompts: list[list[int]], answers: list[list[int]], speculation: Speculation) -> None:
        self.sequences = [submit(n, prompt, len(answers[n])) for n, prompt in enumerate(prompts)]
        self.speculation = speculation
        self.answers = answers
        self.seconds = 0.0
        self.ends: dict[int, float] = {}
        self.passes_with_guesses = 0
        for sequence in self.sequences:
            self._write(sequence, 1)

    def run(self) -> Writing:
        """Write all."""
        while running := [one for one in self.sequences if not one.done]:
            self._pass(running)
            self.ends |= {one.id: self.seconds for one in running if one.done}
        return self

    @property
    def faster(self) -> list[float]:
        """The speed of each stream, by that without guesses; all answers must be equally long."""
        plain = self.speculation.seconds(len(self.answers)) * (len(self.answers[0]) - 1)
        return [plain / self.ends[number] for number in range(len(self.answers))]

    def _pass(self, running: list[Sequence]) -> None:
        guesses = self.speculation.guesses(running)
        if guesses is None:
            self.seconds += self.speculation.seconds(len(running))
            for sequence in running:
                self._write(sequence, 1)
            return
        self.passes_with_guesses += 1
        self.seconds += self.speculation.seconds(len(running) * (1 + guesses.count)) + self.speculation.overhead
        verdicts = [self._verdict(sequence, row) for sequence, row in zip(running, guesses.rows, strict=True)]
        self.speculation.settle(running, guesses, verdicts)
        for sequence, verdict in zip(running, verdicts, strict=True):
            self._write(sequence, len(verdict.tokens))

    def _verdict(self, sequence: Sequence, row: list[int]) -> Verdict:
        coming = self.answers[sequence.id][sequence.emitted :]
        assert len(row) < len(coming)
        right = next((at for at, guess in enumerate(row) if guess != coming[at]), len(row))
        return Verdict(coming[: right + 1], [None] * (right + 1), 0)

    def _write(self, sequence: Sequence, count: int) -> None:
        sequence.tokens += self.answers[sequence.id][sequence.emitted : sequence.emitted + count]
        sequence.sampled = sequence.emitted = sequence.emitted + count
        sequence.done = sequence.emitted == len(self.answers[sequence.id])


def text(seed: int, length: int, predictable: float, symbols: int = 300) -> list[int]:
    """Tokens of which that share is what followed the two before it last time."""
    chance, after = random.Random(seed), dict[tuple[int, int], int]()
    tokens = [chance.randrange(symbols), chance.randrange(symbols)]
    while len(tokens) < length:
        pair = tokens[-2], tokens[-1]
        known = after.get(pair)
        tokens.append(known if known is not None and chance.random() < predictable else chance.randrange(symbols))
        after[pair] = tokens[-1]
    return tokens


def edit(seed: int, length: int) -> tuple[list[int], list[int]]:
    """A prompt, and an answer that repeats it with an edit every 40 tokens."""
    chance = random.Random(seed)
    prompt = [chance.randrange(5000) for _ in range(length)]
    return prompt, [chance.randrange(5000) if at % 40 == 39 else token for at, token in enumerate(prompt)]


@pytest.mark.parametrize("overhead", [0.0, 0.2])
def test_an_edit_is_written_much_faster(overhead: float) -> None:
    prompt, answer = edit(1, 200)
    writing = Writing([prompt], [answer], Speculation(measured, measured, overhead=overhead)).run()
    assert writing.faster[0] > 3


@pytest.mark.parametrize("streams", [1, 2, 4, 16])
@pytest.mark.parametrize("seconds", [measured, linear])
@pytest.mark.parametrize("predictable", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("symbols", [3, 12, 300])
def test_however_often_guesses_are_right_it_costs_next_to_nothing(
    streams: int, seconds: Callable[[int], float], predictable: float, symbols: int
) -> None:
    prompts = [text(seed, 100, predictable, symbols) for seed in range(streams)]
    answers = [text(50 + seed, 150, predictable, symbols) for seed in range(streams)]
    writing = Writing(prompts, answers, Speculation(seconds, seconds, overhead=0.1)).run()
    assert geometric_mean(writing.faster) >= 0.97


def test_guesses_that_fail_whatever_was_seen_before_are_given_up() -> None:
    """Each pair is met twice in the same way before it goes on differently: the worst that can come."""
    chance, answer = random.Random(4), list[int]()
    while len(answer) < 300:
        piece = [chance.randrange(5000) for _ in range(4)]
        answer += [*piece, 1, *piece[:3]]
    writing = Writing([[1, 2]], [answer[:300]], Speculation(measured, measured, overhead=0.5)).run()
    assert writing.faster[0] >= 0.97


def test_guesses_that_would_slow_a_pass_down_as_much_as_they_bring_are_not_made() -> None:
    prompt, answer = edit(2, 100)
    assert Writing([prompt], [answer], Speculation(linear, linear)).run().passes_with_guesses == 0


def test_streams_without_guesses_do_not_wait_long_for_one_that_has_them() -> None:
    prompt, answer = edit(3, 120)
    prompts, answers = [prompt, [1, 2]], [answer, text(7, 120, 0.0, 5000)]
    writing = Writing(prompts, answers, Speculation(measured, measured)).run()
    assert writing.faster[0] > 2
    assert min(writing.faster) > 0.5


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_is_guessed_than_allowed_and_than_the_answer_has_left(most: int) -> None:
    sequence = submit(1, [5, 6, 7, 8, 9] * 3, tokens=3)
    guesses = Speculation(measured, measured, most=most).guesses([sequence])
    assert guesses == Guesses([[5, 6, 7, 8, 9][: min(most, 2)]])
    sequence.sampled = sequence.emitted = 2
    sequence.tokens += [5, 6]
    assert Speculation(measured, measured, most=most).guesses([sequence]) is None


def test_a_token_on_its_way_is_waited_for_where_guesses_behind_it_pay() -> None:
    loop, prose = submit(1, [5, 6, 7, 8, 9] * 6, tokens=30), submit(2, list(range(30)), tokens=30)
    for sequence in (loop, prose):
        sequence.sampled = 1
    speculation = Speculation(measured, measured, overhead=0.1)
    assert speculation.promises([loop])
    assert not speculation.promises([prose])


def test_what_a_grammar_forces_is_guessed_and_what_it_forbids_is_not() -> None:
    tokens = Tokens(LLTokenizer("byte"))
    sequence = submit(1, list(b'{"title":"abc"} {"title":"abc"'), tokens=60, stop=tokens.tokenizer.eos_token)
    schema = {"type": "object", "properties": {"title": {"enum": ["abx", "aby"]}}, "required": ["title"]}
    grammar = LLMatcher.grammar_from_json_schema(schema, {"whitespace_flexible": False})
    sequence.matcher = Matcher(tokens, grammar, sequence.stop_tokens)
    speculation = Speculation(measured, measured)
    assert speculation.guesses([sequence]) == Guesses([list(b'{"title":"ab')])
    for token in b'{"title":"':
        sequence.matcher.accept(token)
    sequence.tokens += list(b'{"title":"')
    assert speculation.guesses([sequence]) == Guesses([list(b"ab")])


def test_an_answer_is_much_faster_the_second_time() -> None:
    prompt, answer = text(1, 40, 0.0), text(2, 200, 0.0)
    speculation = Speculation(measured, measured, overhead=0.2)
    first = Writing([prompt], [answer], speculation).run()
    assert first.faster[0] == pytest.approx(1.0, abs=0.03)
    speculation.ended(first.sequences[0])
    assert Writing([prompt], [answer], speculation).run().faster[0] > 3


def test_answers_that_begin_like_others_and_part_cost_next_to_nothing() -> None:
    template, speculation = text(1, 20, 0.0), Speculation(measured, measured)
    for seed in range(10, 30):
        writing = Writing([template], [text(seed, 100, 0.0)], speculation).run()
        assert writing.faster[0] > 0.96
        speculation.ended(writing.sequences[0])


@pytest.mark.parametrize(("dearer", "expected"), [(1, 1000), (20, 20)])
def test_where_passes_with_guesses_are_dear_they_are_tried_only_now_and_then(dearer: int, expected: int) -> None:
    sequence = submit(1, [5, 6, 7, 8, 9] * 3, tokens=3)
    speculation = Speculation(measured, lambda tokens: dearer * measured(tokens))
    assert sum(speculation.guesses([sequence]) is not None for _ in range(1000)) == expected


def test_the_dearer_passes_with_guesses_are_the_sooner_wrong_ones_are_given_up() -> None:
    def wrong_guesses(dearer: float) -> int:
        sequence = submit(1, [5, 6, 7, 8, 9] * 6, tokens=30)
        speculation, made = Speculation(measured, lambda tokens: dearer * measured(tokens)), 0
        while guesses := speculation.guesses([sequence]):
            speculation.settle([sequence], guesses, [Verdict([1], [None], guesses.count)])
            made += 1
        return made

    assert 1 <= wrong_guesses(1.5) < wrong_guesses(1.0)


def going_on(lengths: list[int], predictable: float) -> Writing:
    """Streams that go on in such texts for so long, each in its own."""
    texts = [text(seed, 300 + length, predictable, 60) for seed, length in enumerate(lengths)]
    prompts, answers = [text[:300] for text in texts], [text[300:] for text in texts]
    return Writing(prompts, answers, Speculation(measured, measured)).run()


def test_short_answers_that_end_together_are_not_parted_for_little() -> None:
    assert going_on([30] * 4, 0.95).passes_with_guesses == 0
    assert going_on([40] * 4, 0.95).passes_with_guesses == 0, "they would be apart for more than one answer"
    assert going_on([30, 31, 32, 33], 0.95).passes_with_guesses > 0


@pytest.mark.parametrize("streams", [4, 8])
def test_answers_that_would_end_together_are_parted_where_guesses_win_more(streams: int) -> None:
    assert max(going_on([30] * streams, 1.0).ends.values()) < 0.6 * 29 * measured(streams)
    assert max(going_on([400] * streams, 0.95).ends.values()) < 0.95 * 399 * measured(streams)
