"""Tensor parallel over real ranks, against one rank: what all compute, what each keeps, and what cannot be cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxserve.errors import UserError
from mlxserve.pipeline.tensor_shares import shard_model
from tests.pipeline.group_program import run_on_ranks
from tests.pipeline.one_rank import CONFIGS, VOCABULARY, build

PROGRAM = "tests.pipeline.tensor_program"
FOUR_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32}


def config(model_type: str, **changes: Any) -> dict[str, Any]:
    return CONFIGS[model_type] | {"vocab_size": VOCABULARY} | changes


MINIMAX = {
    "model_type": "minimax",
    "hidden_size": 64,
    "intermediate_size": 64,
    "shared_intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rotary_dim": 16,
    "max_position_embeddings": 2048,
    "num_experts_per_tok": 2,
    "num_local_experts": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": VOCABULARY,
}
QWEN3_5 = {
    "model_type": "qwen3_5",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "vocab_size": VOCABULARY,
}
CASES: dict[str, dict[str, Any]] = {
    "llama, sliding windows": {"config": config("llama")},
    "qwen2, of 4 bits": {"config": config("qwen2"), "bits": 4},
    "qwen3": {"config": config("qwen3")},
    "qwen3, keys and values of 8 bits": {"config": config("qwen3", **FOUR_HEADS), "kv_bits": 8},
    "qwen3_moe, of 8 bits": {"config": config("qwen3_moe"), "bits": 8},
    "gpt_oss": {"config": config("gpt_oss")},
    "minimax, sums within compiled functions": {"config": MINIMAX},
    "qwen3_5, linear attention and a head that mlx-lm cuts": {"config": QWEN3_5},
}
WHOLE_CACHES: dict[str, dict[str, Any]] = {
    "deepseek_v3": {"config": config("deepseek_v3")},
    "deepseek_v41": {"config": config("deepseek_v41")},
}
"""Compressed keys and values have no heads, and every rank keeps all of them."""


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    """What was found of each on two ranks."""
    cases = CASES | WHOLE_CACHES
    found = run_on_ranks(PROGRAM, 2, *map(json.dumps, cases.values()), timeout=240)
    return dict(zip(cases, found, strict=True))


@pytest.mark.parametrize("case", [*CASES, *WHOLE_CACHES])
def test_logits_are_those_of_one_rank_and_equal_on_all(reports: dict[str, dict[str, Any]], case: str) -> None:
    report = reports[case]
    share = report.pop("caches")
    assert report == {"refusal": "", "equal on all ranks": True, "like one rank's": True, "batchable": True}
    assert share == 1.0 if case in WHOLE_CACHES else share == pytest.approx(0.5, abs=0.01)


def test_four_ranks_add_up_to_the_same_as_one() -> None:
    (report,) = run_on_ranks(PROGRAM, 4, json.dumps({"config": config("qwen3", **FOUR_HEADS)}), timeout=120)
    assert report["like one rank's"]
    assert report["equal on all ranks"]
    assert report["caches"] == 0.25


@pytest.mark.parametrize(
    ("ranks", "model_type", "reason"),
    [
        (2, "gemma2", "model type 'gemma2' cannot be run tensor parallel on 2 ranks: mlx-lm cannot cut"),
        (3, "qwen3", "model type 'qwen3' cannot be run tensor parallel on 3 ranks: its 4 attention heads"),
        (4, "qwen3_moe", "on 4 ranks: its 2 n_kv_heads cannot be divided by 4"),
    ],
)
def test_what_cannot_be_cut_is_refused_by_type_and_numbers(ranks: int, model_type: str, reason: str) -> None:
    class Group:
        def size(self) -> int:
            return ranks

        def rank(self) -> int:
            return 0

    group: Any = Group()
    with pytest.raises(UserError, match=reason):
        shard_model(build(model_type), group)
