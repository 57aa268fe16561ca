from __future__ import annotations

from collections import Counter

import mlx.core as mx
import pytest

from mlxserve.engine.messages import Sampling
from mlxserve.engine.sampler import sample

LOGITS = mx.random.normal((6, 1000), key=mx.random.key(0)) * 3
SETTINGS = [
    Sampling(1, 0.0),
    Sampling(2, 1.0),
    Sampling(3, 0.7, 0.9),
    Sampling(4, 1.0, 1.0, 5),
    Sampling(5, 1.3, 1.0, 0, 0.1),
    Sampling(6, 0.8, 0.5, 40, 0.05),
]


def draw(logits: mx.array, setting: Sampling, positions: range) -> list[int]:
    """One token of one row for each position."""
    rows = mx.broadcast_to(logits, (len(positions), logits.size))
    return [int(token) for token in sample(rows, [setting] * len(positions), list(positions)).tolist()]  # type: ignore[union-attr]


def test_a_rows_token_does_not_depend_on_the_rows_beside_it() -> None:
    together = sample(LOGITS, SETTINGS, [3, 1, 4, 1, 5, 9]).tolist()
    apart = [
        sample(LOGITS[row : row + 1], [SETTINGS[row]], [position]).item()
        for row, position in enumerate([3, 1, 4, 1, 5, 9])
    ]
    assert together == apart


def test_seed_and_position_decide() -> None:
    warm = Sampling(7, 1.0)
    first = draw(LOGITS[0], warm, range(50))
    assert draw(LOGITS[0], warm, range(50)) == first
    assert draw(LOGITS[0], Sampling(8, 1.0), range(50)) != first
    assert len(set(first)) > 5


@pytest.mark.parametrize(
    "setting", [Sampling(1, 0.0), Sampling(1, 1.0, 1.0, 1), Sampling(1, 1.0, 1e-6), Sampling(1, 1.0, 1.0, 0, 1.0)]
)
def test_temperature_0_top_k_1_tiny_top_p_and_min_p_1_take_the_likeliest(setting: Sampling) -> None:
    assert set(draw(LOGITS[1], setting, range(20))) == {int(mx.argmax(LOGITS[1]).item())}


def test_tokens_come_as_often_as_the_softmax_says() -> None:
    probabilities = [0.5, 0.3, 0.15, 0.05]
    count = 20_000
    drawn = Counter(draw(mx.log(mx.array(probabilities)), Sampling(11, 1.0), range(count)))
    for token, probability in enumerate(probabilities):
        assert drawn[token] / count == pytest.approx(probability, abs=4 * (probability / count) ** 0.5)


def test_temperature_sharpens() -> None:
    probabilities = mx.array([0.6, 0.4])
    drawn = Counter(draw(mx.log(probabilities), Sampling(12, 0.5), range(5000)))
    assert drawn[0] / 5000 == pytest.approx(0.36 / (0.36 + 0.16), abs=0.03)


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        (Sampling(1, 1.0, 0.75), {0, 1}),
        (Sampling(1, 1.0, 0.5), {0}),
        (Sampling(1, 1.0, 1.0, 3), {0, 1, 2}),
        (Sampling(1, 1.0, 1.0, 0, 0.25), {0, 1, 2}),
        (Sampling(1, 1.0, 0.9, 1), {0}),
    ],
)
def test_filters_let_through_what_they_should_and_nothing_else(setting: Sampling, allowed: set[int]) -> None:
    logits = mx.log(mx.array([0.5, 0.3, 0.15, 0.05]))
    assert set(draw(logits, setting, range(500))) == allowed
