"""The numbers, from answers whose times are known."""

from __future__ import annotations

import pytest

from mlxserve.bench.answer import Answer, read
from mlxserve.bench.figures import Percentiles, figures, percentiles, rates
from mlxserve.bench.load import Run
from mlxserve.bench.server import Exchange

from .conftest import chunk

DONE = b"data: [DONE]\n\n"
USAGE = (
    b'data: {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 6, '
    b'"prompt_tokens_details": {"cached_tokens": 30}}}\n\n'
)


def streamed(*pieces: tuple[float, bytes]) -> Answer:
    return read(Exchange(10.0, 200, "text/event-stream", list(pieces)))


def test_an_answer_is_timed_by_its_events_and_counted_by_usage() -> None:
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    answer = streamed((10.1, role), (10.5, chunk("a")), (10.7, chunk("b")), (11.0, USAGE + DONE))
    assert answer.error == ""
    assert answer.first_token == pytest.approx(0.5)
    assert answer.events == [10.5, 10.7]
    assert (answer.tokens, answer.by_usage) == (6, True)
    assert (answer.prompt_tokens, answer.cached_tokens) == (40, 30)
    assert answer.ended == 11.0


@pytest.mark.parametrize(
    "delta",
    [
        b'{"delta": {"reasoning_content": "hm"}}',
        b'{"delta": {"reasoning": "hm"}}',
        b'{"delta": {"tool_calls": [{"index": 0}]}}',
        b'{"text": "plain"}',
    ],
)
def test_reasoning_tool_calls_and_plain_text_count_as_first_token(delta: bytes) -> None:
    answer = streamed((12.0, b'data: {"choices": [%s]}\n\n' % delta + DONE))
    assert answer.first_token == pytest.approx(2.0)


def test_without_usage_events_are_counted() -> None:
    answer = streamed((11.0, chunk("a") + chunk("b")), (12.0, chunk("c") + DONE))
    assert (answer.tokens, answer.by_usage) == (3, False)


def test_an_event_cut_in_two_came_when_its_end_did() -> None:
    event = chunk("a")
    answer = streamed((11.0, event[:20]), (12.0, event[20:] + DONE))
    assert answer.events == [12.0]


def test_gaps_are_shared_by_the_tokens_of_an_event() -> None:
    assert Answer(0, 3, [1.0, 2.0, 3.0], tokens=5).gaps == [0.5, 0.5]
    assert Answer(0, 3, [1.0, 2.0, 3.0], tokens=3).gaps == [1.0, 1.0]
    assert Answer(0, 3, [1.0, 2.0, 3.0], tokens=2).gaps == [1.0, 1.0]


def test_rates_of_two_answers_at_the_same_time() -> None:
    one = Answer(0.0, 5.0, [1.0, 2.0, 3.0, 4.0, 5.0], tokens=5)
    other = Answer(0.5, 6.0, [2.0, 3.0, 4.0, 5.0, 6.0], tokens=5)
    found = rates(Run([one, other]))
    assert found is not None
    assert found.tokens_per_second == pytest.approx(10 / 6)
    assert found.decode_per_second == pytest.approx(8 / 5)
    assert found.together_per_second == pytest.approx(2.0)


def test_decoding_leaves_out_the_time_in_which_nobody_generates() -> None:
    answers = [Answer(0.0, 3.0, [2.0, 3.0], tokens=2), Answer(3.0, 6.0, [5.0, 6.0], tokens=2)]
    found = rates(Run(answers))
    assert found is not None
    assert found.tokens_per_second == pytest.approx(4 / 6)
    assert found.decode_per_second == pytest.approx(2 / 2)
    assert found.together_per_second == 0


def test_percentiles_are_values_that_occurred() -> None:
    assert percentiles([float(number) for number in range(1, 101)]) == Percentiles(50, 95, 99)
    assert percentiles([3.0]) == Percentiles(3, 3, 3)
    assert percentiles([]) is None


def test_failed_answers_are_counted_apart() -> None:
    good = Answer(0.0, 2.0, [1.0, 2.0], tokens=2, by_usage=True)
    found = figures("chat", 2, [Run([good, Answer(0.0, 4.0, error="timed out")])])
    assert found.errors == {"timed out": 1}
    assert (found.requests, found.tokens) == (2, 2)
    assert found.tokens_per_second == pytest.approx(0.5)
    assert found.first_token == Percentiles(1, 1, 1)


def test_a_round_in_which_all_failed_has_no_rates() -> None:
    found = figures("chat", 1, [Run([Answer(0.0, 4.0, error="timed out")])])
    assert found.rounds == []
    assert found.first_token is None
