from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.rope_utils import Llama3RoPE
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer
from mlx_lm.tokenizer_utils import load as load_tokenizer
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from mlxserve.errors import UserError
from mlxserve.models.gguf import GgufFile
from mlxserve.models.gguf_byte_level import SPLITS
from mlxserve.models.progress import Report
from mlxserve.models.source import find_model

from .gguf_writer import quantize, write_gguf
from .tiny import (
    LAYERS,
    TOKENS,
    gguf_metadata,
    logits,
    tiny_config,
    tiny_gemma3,
    tiny_weights,
    write_folder,
    write_tiny_gguf,
)

TEXT = "<|im_start|>user\n hello 1234 wörld's\n\n  x<|im_end|>"
FIND = """
import sys
from mlxserve.models.source import find_model
print(find_model(sys.argv[1], print).folder)
"""


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_a_gguf_file_gives_the_logits_of_the_same_weights_in_a_folder(
    tmp_path: Path, report: Report, family: str, kind: str
) -> None:
    config = tiny_config(family)
    rounded = write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), kind)
    if kind == "BF16":
        rounded = {n: w.astype(mx.bfloat16).astype(mx.float32) for n, w in rounded.items()}
    folder = write_folder(tmp_path / "folder", config, rounded)
    ours = logits(find_model(str(tmp_path / "tiny.gguf"), report).load("float32"))
    assert mx.array_equal(ours, logits(find_model(str(folder), report).load("float32")))


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1"])
def test_stored_weights_are_the_bits_that_mlx_reads_from_the_file(tmp_path: Path, report: Report, kind: str) -> None:
    config = tiny_config("qwen2")
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), kind)
    expected = mx.load(str(tmp_path / "tiny.gguf"))
    layer = find_model(str(tmp_path / "tiny.gguf"), report).load("stored").model.layers[2].mlp.down_proj
    for part, value in layer.parameters().items():
        assert mx.array_equal(value, expected[f"blk.2.ffn_down.{part}"]), part


def test_biases_and_tied_embeddings_are_taken_over(tmp_path: Path, report: Report) -> None:
    config = tiny_config("llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    rounded = write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "Q8_0")
    folder = write_folder(tmp_path / "folder", config, rounded)
    found = find_model(str(tmp_path / "tiny.gguf"), report)
    assert found.config["tie_word_embeddings"]
    assert mx.array_equal(logits(found.load("float32")), logits(find_model(str(folder), report).load("float32")))


@pytest.mark.parametrize("kind", ["F32", "Q5_0"])
def test_gemma3_gives_the_logits_of_the_same_weights_in_a_folder(tmp_path: Path, report: Report, kind: str) -> None:
    config = tiny_gemma3()
    weights = {name: weight for name, weight in tiny_weights(config).items() if not name.startswith("lm_head")}
    rounded = write_tiny_gguf(tmp_path / "tiny.gguf", config, weights, kind)
    folder = write_folder(tmp_path / "folder", config, rounded)
    ours = logits(find_model(str(tmp_path / "tiny.gguf"), report).load("float32"))
    assert mx.array_equal(ours, logits(find_model(str(folder), report).load("float32")))


def test_gemma3_has_what_its_file_does_not_say(tmp_path: Path, report: Report) -> None:
    config = tiny_gemma3()
    left_out = {f"gemma3.{key}": None for key in ("attention.sliding_window_pattern", "rope.freq_base_swa")}
    for layers, scalar in ((LAYERS, config["head_dim"]), (62, config["hidden_size"] // config["num_attention_heads"])):
        path = tmp_path / f"{layers}.gguf"
        metadata = gguf_metadata(config, "default") | {"gemma3.block_count": layers} | left_out
        known = {key: value for key, value in metadata.items() if value is not None}
        write_gguf(path, known, [("token_embd.weight", "F32", (len(TOKENS), 64), bytes(len(TOKENS) * 64 * 4))])
        found = find_model(str(path), report).config
        expected = {"sliding_window_pattern": 6, "rope_local_base_freq": 10000.0, "query_pre_attn_scalar": scalar}
        assert found.items() >= expected.items()


def test_mixed_types_are_named_in_the_config(demo: Any) -> None:
    assert demo.config["quantization"] == {
        "group_size": 32,
        "bits": 4,
        "model.embed_tokens": {"group_size": 32, "bits": 8},
    }


def test_llama3_rope_factors_become_the_formula_they_came_from(tmp_path: Path, report: Report) -> None:
    config = tiny_config("llama", rope_theta=500000.0)
    scaling = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}
    plain = config["rope_theta"] ** (np.arange(0, 16, 2) / 16)
    factors = np.array(Llama3RoPE(16, base=config["rope_theta"], scaling_config=scaling)._freqs) / plain
    _write_with(tmp_path / "a.gguf", config, factors)
    assert find_model(str(tmp_path / "a.gguf"), report).config["rope_scaling"].items() >= scaling.items()
    _write_with(tmp_path / "b.gguf", config, factors[::-1])
    _refused(tmp_path / "b.gguf", "rope factors")


def _write_with(path: Path, config: dict[str, Any], factors: np.ndarray) -> None:
    tensors = [
        ("token_embd.weight", "F32", (len(TOKENS), 64), bytes(len(TOKENS) * 64 * 4)),
        ("rope_freqs.weight", "F32", factors.shape, factors.astype("<f4").tobytes()),
    ]
    write_gguf(path, gguf_metadata(config, "llama-bpe"), tensors)


def test_each_layer_is_a_file_of_its_own_and_nothing_is_converted_twice(
    tmp_path: Path, cache: Path, report: Report
) -> None:
    config = tiny_config("qwen3")
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "Q8_0")
    first = find_model(str(tmp_path / "tiny.gguf"), report).folder
    made = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert len(list(first.glob("model*.safetensors"))) == LAYERS + 1
    assert find_model(str(tmp_path / "tiny.gguf"), report).folder == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == made


def test_what_a_killed_conversion_left_behind_is_swept_up(tmp_path: Path, cache: Path, report: Report) -> None:
    config = tiny_config("qwen3")
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "F16")
    folder = find_model(str(tmp_path / "tiny.gguf"), report).folder
    leftover = folder.with_name(folder.name + ".tmp-killed")
    folder.rename(leftover)
    (leftover / "config.json").unlink()
    assert find_model(str(tmp_path / "tiny.gguf"), report).folder == folder
    assert not leftover.exists()


def test_ranks_on_one_host_may_convert_at_the_same_moment(tmp_path: Path) -> None:
    config = tiny_config("qwen3")
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "F16")
    command = [sys.executable, "-c", FIND, str(tmp_path / "tiny.gguf")]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [rank.communicate()[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 0]
    assert sum("converting" in lines for lines in said) == 1
    assert len({lines.splitlines()[-1] for lines in said}) == 1


@pytest.mark.parametrize("pre", ["default", "gpt-2", "llama-bpe", "qwen2", "smollm"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_tokenizer_survives_transformers_and_streams_quickly(
    tmp_path: Path, report: Report, family: str, pre: str
) -> None:
    config = tiny_config(family)
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "Q8_0", pre)
    folder = find_model(str(tmp_path / "tiny.gguf"), report).folder
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer.detokenizer, BPEStreamingDetokenizer)
    ids = tokenizer.encode(TEXT)
    assert ids == Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids
    assert (ids[:2] == [1, 1]) == (pre == "llama-bpe")
    assert tokenizer.decode(tokenizer.encode(TEXT, add_special_tokens=False)) == TEXT
    assert TOKENS.index("Ġhello") in ids
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == (
        "<|im_start|>user\nhi<|im_end|>\n"
    )


def test_a_file_can_ask_for_no_bos_token(tmp_path: Path, report: Report) -> None:
    config = tiny_config("llama")
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path, config, tiny_weights(config), "F16", "llama-bpe", **{"tokenizer.ggml.add_bos_token": False})
    assert load_tokenizer(find_model(str(path), report).folder).encode(" hello") == [TOKENS.index("Ġhello")]


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        (
            {"general.architecture": "phi3"},
            "has the architecture 'phi3': of GGUF files only llama, qwen2, qwen3, gemma3",
        ),
        ({"llama.expert_count": 8}, "'llama with experts'"),
        ({"split.count": 3}, "llama-gguf-split --merge"),
        ({"tokenizer.ggml.model": "t5"}, "has the tokenizer 't5': of GGUF files only byte-level BPE"),
        ({"tokenizer.ggml.model": "llama"}, "does not have a score and a type for each of its tokens"),
        ({"llama.attention.head_count_kv": [2, 1, 2, 1]}, "says it layer by layer"),
        ({"tokenizer.ggml.pre": "tekken"}, "splits words by the rule 'tekken'"),
        ({"llama.rope.dimension_count": 8}, "rotates only a part of each head"),
        ({"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 2.0}, "rope scaling 'longrope'"),
        ({"tokenizer.ggml.merges": ["foo bar"]}, "a tokenizer that contradicts itself"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, metadata: dict[str, Any], sentence: str) -> None:
    config = tiny_config("llama")
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "Q8_0", "llama-bpe", **metadata)
    _refused(tmp_path / "tiny.gguf", sentence)


def test_unsupported_quantizations_are_named_before_anything_is_converted(tmp_path: Path, cache: Path) -> None:
    tensors = [
        ("token_embd.weight", "Q3_K", (256, 256), bytes(256 * 110)),
        ("blk.0.attn_q.weight", "Q2_K", (256, 256), bytes(256 * 84)),
        ("blk.0.attn_k.weight", "Q2_K", (256, 256), bytes(256 * 84)),
    ]
    write_gguf(tmp_path / "tiny.gguf", gguf_metadata(tiny_config("llama"), "llama-bpe"), tensors)
    _refused(tmp_path / "tiny.gguf", "is quantized as Q2_K (2 tensors), Q3_K (1 tensors): only F32, F16, BF16, Q4_0")
    assert not cache.exists()


@pytest.mark.parametrize(("size", "sentence"), [(2, "is no GGUF file"), (2000, "damaged"), (-100, "is cut short: it")])
def test_a_file_cut_short_is_told(tmp_path: Path, size: int, sentence: str) -> None:
    config = tiny_config("qwen3")
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path, config, tiny_weights(config), "F16")
    path.write_bytes(path.read_bytes()[:size])
    _refused(path, sentence)


def test_a_full_disk_is_told(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config("qwen3")
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "F16")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    _refused(tmp_path / "tiny.gguf", f"cannot be converted into {cache}: the disk is full")
    assert not [path for path in (cache / "gguf").iterdir() if path.is_dir()]


def test_text_is_cut_into_words_as_the_models_own_tokenizers_cut_it() -> None:
    assert SPLITS["qwen2"] == (PRETOKENIZE_REGEX,)
    theirs = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    ours = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS["smollm"]),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = random.Random(1).choices("ab Z'sté 世界 12\uff19٣½Ⅷ\n\n\t  .,!?#-_=+🎉\u3000\r", k=20_000)
    text = "".join(letters)
    assert ours.pre_tokenize_str(text) == theirs.pre_tokenize_str(text)


def test_the_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    metadata = {"a": 7, "b": "ü", "c": True, "d": ["x", ""], "e": [-1, 2], "f": 0.5}
    raw, _ = quantize(np.ones((2, 32), np.float32), "Q8_0")
    file = GgufFile.read(write_gguf(tmp_path / "a.gguf", metadata, [("t", "Q8_0", (2, 32), raw)]))
    assert json.dumps(file.metadata) == json.dumps(metadata)
    assert file.tensors["t"].shape == (2, 32)
    assert file.path.read_bytes()[file.tensors["t"].start :][: len(raw)] == raw


def _refused(path: Path, sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        find_model(str(path), print)
    assert sentence in str(refusal.value)
    assert str(path) in str(refusal.value)
