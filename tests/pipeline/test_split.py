from __future__ import annotations

import pytest
from mlx_lm.utils import _get_classes

from mlxserve.config import Capacity
from mlxserve.errors import UserError
from mlxserve.pipeline.balance import Weights
from mlxserve.pipeline.split import layer_bytes, plan_split, tail_bytes

LAYERS = Weights([10] * 4, [10] * 4)
SIX = Weights([10] * 6, [10] * 6)
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


def test_a_large_head_takes_no_layers_from_the_first_rank() -> None:
    config = {**TINY, "vocab_size": 30_000}
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    sizes = layer_bytes(model)
    weights = Weights(sizes, sizes, tail=tail_bytes(model))
    assert plan_split(weights, 2, (), [1, 2, 3]) == [range(2), range(2, 4)]


def test_a_wanted_split_is_taken_as_it_is_whatever_the_ranks_have() -> None:
    unequal = [Capacity(1000, 90.0), Capacity(10, 1.0)]
    assert plan_split(LAYERS, 2, (), [1, 2, 3], unequal) == [range(3), range(3, 4)]
    assert plan_split(LAYERS, 2, (1, 3), [1, 2, 3], unequal) == [range(1), range(1, 4)]


def test_layers_that_must_stay_together_do() -> None:
    assert plan_split(SIX, 2, (), [1, 2]) == [range(2), range(2, 6)]
    assert plan_split(SIX, 3, (), [1, 4, 5]) == [range(1), range(1, 4), range(4, 6)]


def test_a_split_between_layers_that_must_stay_together_is_refused() -> None:
    with pytest.raises(UserError, match=r"--split 3,3 .* cannot be cut after layer 3, .* it can after 1, 2\."):
        plan_split(SIX, 2, (3, 3), [1, 2])


@pytest.mark.parametrize("wanted", [(2,), (1, 1, 2), (3, 2), (4, 0)])
def test_a_split_that_does_not_fit_is_refused_with_the_numbers_that_would(wanted: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"--split .* must name 2 ranks' layers, each at least 1, together 4"):
        plan_split(LAYERS, 2, wanted, [1, 2, 3])


def test_more_ranks_than_layers_are_refused() -> None:
    with pytest.raises(UserError, match="the model has 2 layers, too few for 3 ranks"):
        plan_split(Weights([10] * 2, [10] * 2), 3, (), [1])


@pytest.mark.parametrize("tied", [True, False])
def test_the_tail_is_the_norm_and_the_head_and_no_embedding_that_is_not_the_head(tied: bool) -> None:
    config = {**TINY, "vocab_size": 300, "tie_word_embeddings": tied}
    model_class, arguments = _get_classes(config)
    assert tail_bytes(model_class(arguments.from_dict(config))) == 4 * (300 * 64 + 64)
