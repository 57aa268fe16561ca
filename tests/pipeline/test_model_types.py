"""Every model type of the shared configs, split over real ranks, against mlx-lm's own model on one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.group_program import run_on_ranks

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
TYPES = [entry["model_type"] for entry in json.loads((HERE / "model-configs.json").read_text())]
NEEDS_METAL = {"bitnet"}
REFUSED = {
    "afm7": "it reads its layers' caches again after the last layer",
    "deepseek_v41": "what its layers hand on is not one array",
    "gemma3n": "what its layers hand on is not one array",
    "gemma4_text": "what its layers hand on is not one array",
    "hunyuan": "what its layers hand on is not one array",
    "rwkv7": "what its layers hand on is not one array",
}
"""Types whose layers share caches or hand on more than the hidden state."""
NOT_BATCHED = {"gemma2", "llama4", "phi3small"}
"""mlx-lm itself raises for padded rows of these, or has no batch cache for them."""


@pytest.fixture(scope="module", params=[2, 3])
def reports(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    reports = run_on_ranks("tests.pipeline.types_program", request.param, timeout=600)
    return {report["type"]: report for report in reports}


@pytest.mark.parametrize("model_type", [name for name in TYPES if name not in NEEDS_METAL])
def test_logits_over_several_ranks_are_those_of_one_rank_bit_by_bit(
    reports: dict[str, dict[str, Any]], model_type: str
) -> None:
    report = reports[model_type]
    if model_type in REFUSED:
        assert report["refusal"].startswith(f"model type '{model_type}' cannot be split over ranks: ")
        assert REFUSED[model_type] in report["refusal"]
        return
    expected = {"type": model_type, "refusal": "", "alone 1": True, "alone 7": True, "alone 700": True, "reused": True}
    if model_type not in NOT_BATCHED:
        expected["batched"] = True
    assert report == expected
