"""`--adapter`: the model with it is mlx-lm's own, cut over the ranks; what does not fit gets a sentence."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model, quantize_model

from mlxserve.config import Place, Settings
from mlxserve.engine.part import load_part
from mlxserve.errors import UserError
from mlxserve.models.adapter import Adapter
from mlxserve.models.source import find_model
from mlxserve.pipeline.loading import LoadedModel
from mlxserve.pipeline.pipeline import Work
from mlxserve.pipeline.plan import Open
from tests.pipeline.all_ranks import AllRanks

from .adapters import LAYERS, write_adapter
from .tiny import logits, tiny_config, tiny_weights, write_folder


@pytest.fixture(params=["plain", "quantized"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    config = tiny_config("qwen2")
    plain = write_folder(tmp_path / "plain", config, tiny_weights(config))
    return plain if request.param == "plain" else _quantized(plain, tmp_path / "quantized")


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_model_with_an_adapter_is_mlx_lms_own(model: Path, tmp_path: Path, kind: str) -> None:
    folder = write_adapter(tmp_path / "adapter", model, kind)
    plain = load_model(model)[0]
    expected = load_adapters(load_model(model)[0], str(folder))
    expected.eval()
    own = find_model(str(model), print).load("stored")
    Adapter.read(folder).attach(own, "stored")
    assert mx.array_equal(logits(own), logits(expected))
    assert not mx.allclose(logits(own), logits(plain), atol=0.1)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_two_ranks_compute_what_one_does(model: Path, tmp_path: Path, kind: str) -> None:
    folder = write_adapter(tmp_path / "adapter", model, kind)
    one, two = ([_part(model, folder, rank, ranks) for rank in range(ranks)] for ranks in (1, 2))
    assert mx.array_equal(_read(one), _read(two))
    expected = load_adapters(load_model(model)[0], str(folder))
    expected.eval()
    assert mx.allclose(_read(two), logits(expected)[0, -1], atol=1e-2)


def test_a_rank_reads_the_adapters_of_its_own_layers_alone(tmp_path: Path) -> None:
    config = tiny_config("qwen2")
    model = write_folder(tmp_path / "model", config, tiny_weights(config))
    folder = write_adapter(tmp_path / "adapter", model, rank=2000)
    whole = (folder / "adapters.safetensors").stat().st_size
    gc.collect()
    before = mx.get_active_memory()
    kept = _part(model, folder, 0, 2)
    taken = mx.get_active_memory() - before
    assert len(kept.split[0]) == 2
    assert whole / LAYERS < taken < 1.3 * whole / LAYERS  # of its two layers, one has an adapter


def test_a_model_that_is_computed_in_float32_has_its_adapter_so_too(tmp_path: Path, sharded: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", sharded)
    weights = mx.load(str(folder / "adapters.safetensors"))
    halves = {name: array.astype(mx.float16) for name, array in weights.items()}
    mx.save_safetensors(str(folder / "adapters.safetensors"), halves)
    own = find_model(str(sharded), print).load("float32")
    Adapter.read(folder).attach(own, "float32")
    assert own.model.layers[-1].self_attn.q_proj.lora_a.dtype == mx.float32


def test_two_adapters_have_two_digests_and_a_copy_has_the_same(tmp_path: Path, sharded: Path) -> None:
    one = write_adapter(tmp_path / "one", sharded)
    copy = write_adapter(tmp_path / "copy", sharded)
    other = write_adapter(tmp_path / "other", sharded, rank=8)
    scaled = write_adapter(tmp_path / "scaled", sharded)
    _configure(scaled, lora_parameters={"rank": 4, "scale": 5.0, "dropout": 0.5})
    digests = [Adapter.read(folder).digest for folder in (one, copy, other, scaled)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_ranks_with_different_adapters_differ_in_what_they_tell_and_store(tmp_path: Path, sharded: Path) -> None:
    adapters = ["", *(str(write_adapter(tmp_path / str(rank), sharded, rank=rank)) for rank in (4, 8))]
    settings = [
        Settings(model=str(sharded), adapter=adapter, dtype="stored", prefix_cache_dir=str(tmp_path / "prefixes"))
        for adapter in adapters
    ]
    parts = [load_part(each, print) for each in settings]
    assert len({part.traits["an adapter with the digest"] for part in parts}) == 3
    assert len({part.files._folder for part in parts if part.files}) == 3


def _nothing(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _of_peft(folder: Path) -> None:
    (folder / "adapters.safetensors").rename(folder / "adapter_model.safetensors")


def _configure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _full(folder: Path) -> None:
    _configure(folder, fine_tune_type="full")


def _unknown(folder: Path) -> None:
    _configure(folder, fine_tune_type="prefix")


def _no_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def _cut(folder: Path) -> None:
    path = folder / "adapters.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (_nothing, r"there is no adapter_config\.json in it, for it is no folder on this machine"),
        (_of_peft, r"there is no adapters\.safetensors in it, but the files of PEFT"),
        (_full, r"holds all weights of a model \(fine_tune_type full\), not an adapter: make a model of it"),
        (_unknown, r"fine_tune_type 'prefix': only lora and dora are known"),
        (_no_json, r"adapter_config\.json is not a JSON object"),
        (_cut, r"adapters\.safetensors is cut short"),
    ],
)
def test_what_is_no_adapter_is_told(
    tmp_path: Path, sharded: Path, break_it: Callable[[Path], None], sentence: str
) -> None:
    folder = write_adapter(tmp_path / "adapter", sharded)
    break_it(folder)
    with pytest.raises(UserError, match=sentence):
        Adapter.read(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_layers": 2}, r"not an adapter parameter in the model \(and \d+ more\)"),
        ({"num_layers": 4}, r"lacks \d+ of the \d+ tensors that adapter_config\.json asks for, such as model\.layers"),
        ({"lora_parameters": {"rank": 8, "scale": 4.0, "dropout": 0.0}}, r"adapter shape .* does not match"),
        ({"lora_parameters": {"rank": 4, "dropout": 0.0}}, r"adapter_config\.json is not complete .*scale"),
        ({"lora_parameters": None}, r"the adapter .* does not fit the model"),
    ],
)
def test_what_does_not_fit_the_model_is_told_in_a_sentence(
    tmp_path: Path, sharded: Path, change: dict[str, Any], sentence: str
) -> None:
    folder = write_adapter(tmp_path / "adapter", sharded)
    _configure(folder, **change)
    adapter = Adapter.read(folder)
    with pytest.raises(UserError, match=sentence) as raised:
        adapter.attach(find_model(str(sharded), print).load("stored"), "stored")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def _part(model: Path, adapter: Path, rank: int, ranks: int) -> LoadedModel:
    settings = Settings(Place(rank, ranks), model=str(model), adapter=str(adapter), dtype="float32")
    return load_part(settings, print).loaded


def _read(models: list[LoadedModel]) -> mx.array:
    """Logits after the last token of what `logits` reads."""
    pipeline = AllRanks(models, True)
    found = pipeline.tick([Open(1, 1)], Work(1, mx.array([[5, 9, 30, 77, 2, 100]]), [], "last"))
    while found is None:
        found = pipeline.tick([], None)
    return found[0, -1]


def _quantized(plain: Path, folder: Path) -> Path:
    model, config = load_model(plain)
    quantized, config = quantize_model(model, config, 32, 8)
    return write_folder(folder, config, dict(tree_flatten(quantized.parameters())))
