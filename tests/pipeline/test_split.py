from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.utils import _get_classes

from mlxserve.errors import UserError
from mlxserve.pipeline.split import balance, layer_bytes, plan_split

TINY = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


def test_equal_layers_are_dealt_out_evenly() -> None:
    assert balance([10] * 12, 3) == [4, 4, 4]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 4))
def test_no_cut_has_a_smaller_largest_part(sizes: list[int], world_size: int) -> None:
    world_size = min(world_size, len(sizes))

    def largest(parts: tuple[int, ...]) -> int:
        ends = list(itertools.accumulate(parts))
        return max(sum(sizes[end - part : end]) for part, end in zip(parts, ends, strict=True))

    parts = tuple(balance(sizes, world_size))
    every_cut = [
        cut for cut in itertools.product(range(1, len(sizes) + 1), repeat=world_size) if sum(cut) == len(sizes)
    ]
    assert parts in every_cut
    assert largest(parts) == min(map(largest, every_cut))


def test_a_large_head_takes_no_layers_from_the_first_rank() -> None:
    config = {**TINY, "vocab_size": 30_000}
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    assert plan_split(layer_bytes(model), 2, (), [1, 2, 3]) == [range(2), range(2, 4)]


def test_a_wanted_split_is_taken_as_it_is() -> None:
    assert plan_split([10] * 4, 2, (1, 3), [1, 2, 3]) == [range(1), range(1, 4)]


def test_layers_that_must_stay_together_do() -> None:
    assert plan_split([10] * 6, 2, (), [1, 2]) == [range(2), range(2, 6)]
    assert plan_split([10] * 6, 3, (), [1, 4, 5]) == [range(1), range(1, 4), range(4, 6)]


def test_a_split_between_layers_that_must_stay_together_is_refused() -> None:
    with pytest.raises(UserError, match=r"--split 3,3 .* cannot be cut after layer 3, .* it can after 1, 2\."):
        plan_split([10] * 6, 2, (3, 3), [1, 2])


@pytest.mark.parametrize("wanted", [(2,), (1, 1, 2), (3, 2), (4, 0)])
def test_a_split_that_does_not_fit_is_refused_with_the_numbers_that_would(wanted: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"--split .* must name 2 ranks' layers, each at least 1, together 4"):
        plan_split([10] * 4, 2, wanted, [1, 2, 3])


def test_more_ranks_than_layers_are_refused() -> None:
    with pytest.raises(UserError, match="the model has 2 layers, too few for 3 ranks"):
        plan_split([10] * 2, 3, (), [1])
