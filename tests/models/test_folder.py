from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from mlxserve.config import Dtype
from mlxserve.errors import UserError
from mlxserve.models.source import find_model

from .tiny import tiny_config, tiny_weights, write_folder

SHARD = "model-00002-of-00005.safetensors"


def test_loading_reads_no_weight(tmp_path: Path) -> None:
    config = tiny_config("qwen2", vocab_size=100_000)
    write_folder(tmp_path / "model", config, tiny_weights(config))
    source = find_model(str(tmp_path / "model"), print)
    mx.clear_cache()
    before = mx.get_active_memory()
    model = source.load("bfloat16")
    assert mx.get_active_memory() - before < 100_000
    mx.eval(model.model.layers[0].parameters())
    assert mx.get_active_memory() - before < 1_000_000


def test_fetching_from_a_folder_does_nothing(sharded: Path) -> None:
    assert not find_model(str(sharded), print).fetch(lambda name: True, print)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_quantized_layers_are_dequantized_for_a_float_type(tmp_path: Path, bits: int, dtype: Dtype) -> None:
    stored = _quantized(tmp_path, bits).load("stored").model.layers[1].mlp.down_proj
    model = _quantized(tmp_path, bits).load(dtype)
    assert not any(isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding) for module in model.modules())
    assert {weight.dtype for _, weight in tree_flatten(model.parameters())} == {getattr(mx, dtype)}
    scales, biases = (part.astype(getattr(mx, dtype)) for part in (stored.scales, stored.biases))
    expected = mx.dequantize(stored.weight, scales, biases, 32, bits)
    assert mx.array_equal(model.model.layers[1].mlp.down_proj.weight, expected)


def test_auto_is_float32_on_the_cpu_and_as_stored_on_a_gpu(tmp_path: Path) -> None:
    projection = _quantized(tmp_path).load("auto").model.layers[0].self_attn.q_proj
    assert isinstance(projection, nn.QuantizedLinear) == (mx.default_device() == mx.gpu)


def test_what_mlx_lm_forbids_to_cast_stays(tmp_path: Path) -> None:
    experts = {"n_routed_experts": 2, "n_shared_experts": 1, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1}
    more = {"routed_scaling_factor": 1.0, "norm_topk_prob": True, "moe_intermediate_size": 32, "rope_scaling": None}
    config = tiny_config("glm4_moe", **experts, **more, first_k_dense_replace=1, use_qk_norm=True)
    config |= {"attention_bias": False, "partial_rotary_factor": 0.5}
    write_folder(tmp_path / "model", config, tiny_weights(config))
    parameters = dict(tree_flatten(find_model(str(tmp_path / "model"), print).load("bfloat16").parameters()))
    kept = {name for name, weight in parameters.items() if weight.dtype == mx.float32}
    assert kept == {name for name in parameters if "e_score_correction_bias" in name} != set()


def _quantized(folder: Path, bits: int = 8) -> Any:
    """A source of a model whose matrices have so many bits a weight."""
    config = tiny_config("qwen2", quantization={"group_size": 32, "bits": bits})
    weights: dict[str, mx.array] = {}
    for name, weight in tiny_weights(tiny_config("qwen2")).items():
        if weight.ndim == 1:
            weights[name] = weight.astype(mx.float16)
            continue
        module = name.removesuffix(".weight")
        parts = mx.quantize(weight.astype(mx.float16), group_size=32, bits=bits)
        weights |= {f"{module}.{kind}": part for kind, part in zip(("weight", "scales", "biases"), parts, strict=True)}
    return find_model(str(write_folder(folder / "quantized", config, weights)), print)


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name in ("nowhere", str(tmp_path / "nowhere"), "./org/name", "nowhere.gguf"):
        _refused(name, f"There is no model at {name!r}: name a folder")


def test_a_file_of_another_kind_is_told(sharded: Path) -> None:
    _refused(sharded / SHARD, "is no .gguf file")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "names no model_type"),
        ("{}", "names no model_type"),
        ('{"model_type": "olmo"}', "has the model type 'olmo', which needs a package that is not here"),
        ('{"model_type": "hal9000"}', "has the model type 'hal9000', which this version of mlx-lm cannot run"),
    ],
)
def test_a_config_that_says_nothing_is_told(sharded: Path, text: str, sentence: str) -> None:
    (sharded / "config.json").write_text(text)
    _refused(sharded, sentence)


def test_a_folder_without_a_config_is_told(sharded: Path) -> None:
    (sharded / "config.json").unlink()
    _refused(sharded, "has no config.json")


def test_a_folder_without_weights_is_told(sharded: Path) -> None:
    for file in sharded.glob("*.safetensors"):
        file.unlink()
    _refused(sharded, "has no weights (model*.safetensors): copy")
    (sharded / "model.gguf").touch()
    _refused(sharded, "name its .gguf file itself")


def test_a_folder_without_a_tokenizer_is_told(sharded: Path) -> None:
    for file in sharded.glob("tokenizer*"):
        file.unlink()
    _refused(sharded, "has no tokenizer")


def test_a_file_cut_short_is_named(sharded: Path) -> None:
    whole = (sharded / SHARD).read_bytes()
    (sharded / SHARD).write_bytes(whole[:-1])
    _refused(sharded, f"{SHARD} is cut short: it has {len(whole) - 1:,} of {len(whole):,} bytes")
    (sharded / SHARD).write_bytes(whole[:100])
    _refused(sharded, f"{SHARD} is damaged or no safetensors file")
    (sharded / SHARD).write_bytes(b"")
    _refused(sharded, f"{SHARD} is damaged or no safetensors file")


def test_missing_weights_and_wrong_shapes_are_told_when_loading(sharded: Path) -> None:
    (sharded / SHARD).unlink()
    with pytest.raises(UserError, match=r"cannot be loaded: Missing \d+ parameters"):
        find_model(str(sharded), print).load("stored")
    (sharded / "config.json").write_text(json.dumps(tiny_config("qwen2", num_hidden_layers=1, hidden_size=32)))
    with pytest.raises(UserError, match="cannot be loaded"):
        find_model(str(sharded), print).load("stored")


def test_a_model_with_code_of_its_own_is_refused(sharded: Path) -> None:
    (sharded / "config.json").write_text(json.dumps(tiny_config("qwen2", model_file="evil.py")))
    with pytest.raises(UserError, match="requires importing and running a custom module"):
        find_model(str(sharded), print).load("stored")


def _refused(model: Path | str, sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        find_model(str(model), print)
    assert sentence in str(refusal.value)
