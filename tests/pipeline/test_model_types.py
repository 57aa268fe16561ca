"""Every model type of the installed mlx-lm, split over two and three ranks, against mlx-lm's own model on one."""

from __future__ import annotations

import pytest

from mlxserve.errors import UserError

from .comparison import Expected, split_in_one_process, tiny
from .group_program import run_on_ranks
from .models_md import DOCUMENT, installed_types
from .tiny_models import CONFIGS

MOST_RANKS = {"deepseek_v41": 2, "iquestloopcoder": 1}
"""Types that cannot be split over three ranks."""
REFUSALS = {
    "deepseek_v41": "this model of type 'deepseek_v41' cannot be split over more than 2 ranks: its layers leave arrays",
    "iquestloopcoder": "model type 'iquestloopcoder' cannot be split over ranks: it does not call its layers one after",
}
NOT_BATCHED = {
    *("afm7", "baichuan_m1", "bailing_moe_linear", "deepseek_v41", "falcon_mamba", "gemma2", "gpt_bigcode", "jamba"),
    *("llama4", "longcat_flash_ngram", "mamba", "nemotron_h", "olmo_hybrid", "phi3small", "recurrent_gemma", "rwkv7"),
}
"""mlx-lm itself raises for padded rows of these, gives other tokens, or has no batch cache for them."""
DEPEND_ON_PIECES = {"phi3small", "plamo3"}
"""mlx-lm's models of these give a prompt that is read in pieces other logits than if read at once."""
OVER_PROCESSES = ["hunyuan", "gemma3n", "gemma4_text", "kimi_k3", "nemotron_h", "qwen2", "rwkv7", "talkie"]
"""Types between whose ranks all kinds of things travel."""


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_logits_over_several_ranks_are_those_of_one_rank_bit_by_bit(model_type: str) -> None:
    expected = Expected(tiny(model_type))
    assert expected.batchable == (model_type not in NOT_BATCHED)
    assert expected.depends_on_pieces == (model_type in DEPEND_ON_PIECES)
    for ranks in (2, 3):
        if ranks <= MOST_RANKS.get(model_type, ranks):
            pipeline = split_in_one_process(tiny(model_type), ranks, expected.batchable)
            assert expected.differences(pipeline) == [], f"on {ranks} ranks"
        else:
            with pytest.raises(UserError, match=REFUSALS[model_type]):
                split_in_one_process(tiny(model_type), ranks, expected.batchable)


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_travels_between_processes_arrives_unchanged(ranks: int) -> None:
    reports = run_on_ranks("tests.pipeline.types_program", ranks, *OVER_PROCESSES, timeout=300)
    assert reports == [{"type": model_type, "differences": []} for model_type in OVER_PROCESSES]


def test_every_type_of_mlx_lm_is_in_the_list() -> None:
    rows = [line.split("|")[1].strip() for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"`{model_type}`" for model_type in installed_types()]
