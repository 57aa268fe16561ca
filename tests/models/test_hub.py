from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from huggingface_hub import constants

from mlxserve.errors import UserError
from mlxserve.models.hub_errors import explained
from mlxserve.models.progress import Report
from mlxserve.models.source import find_model

from .hub_server import COMMIT, HubServer
from .tiny import logits

SHARD = "model-{:05d}-of-00005.safetensors"
SCRIPT = """
import mlx.core as mx
from mlxserve.models.source import find_model
source = find_model("org/tiny", print)
print("fetched", source.fetch(lambda name: name.startswith("model.layers.0."), print))
model = source.load("float32")
print("sum", mx.abs(model.model.layers[0].mlp.up_proj.weight).sum().item() > 0)
print("zeros", mx.abs(model.model.layers[3].mlp.up_proj.weight).sum().item())
"""


def of_layers(*layers: int) -> Callable[[str], bool]:
    return lambda name: name.startswith(tuple(f"model.layers.{layer}." for layer in layers))


def test_naming_a_model_downloads_no_weights(hub: HubServer, report: Report, lines: list[str]) -> None:
    source = find_model("org/tiny", report)
    assert source.config["model_type"] == "qwen2"
    assert (source.folder / "tokenizer.json").exists()
    assert not hub.fetched()
    assert lines == ["org/tiny: looking it up on the hub"]


def test_a_rank_fetches_the_files_of_its_layers_alone(
    hub: HubServer, sharded: Path, report: Report, lines: list[str]
) -> None:
    source = find_model("org/tiny", report)
    assert source.fetch(of_layers(0, 1), report)
    assert hub.fetched() == {SHARD.format(2), SHARD.format(3)}
    assert {f"{SHARD.format(2)} 100 %", f"{SHARD.format(3)} 100 %"} < set(lines)
    assert not source.fetch(of_layers(1), report)
    ours, origin = source.load("stored"), find_model(str(sharded), report).load("stored")
    for layer in (0, 1):
        assert mx.array_equal(
            ours.model.layers[layer].mlp.up_proj.weight, origin.model.layers[layer].mlp.up_proj.weight
        )
    for layer in (2, 3):
        assert not ours.model.layers[layer].mlp.up_proj.weight.any()
    assert ours.lm_head.weight.shape == origin.lm_head.weight.shape


def test_zeros_take_no_memory_and_no_disk(hub: HubServer, report: Report, tmp_path: Path) -> None:
    source = find_model("org/tiny", report)
    mx.clear_cache()
    before = mx.get_active_memory()
    model = source.load("float32")
    assert mx.get_active_memory() - before < 100_000
    assert not list(source.folder.glob("*.safetensors"))
    assert model.model.embed_tokens.weight.shape[1] == 64


def test_all_files_fetched_are_the_whole_model(hub: HubServer, sharded: Path, report: Report) -> None:
    source = find_model("org/tiny", report)
    source.fetch(of_layers(0), report)
    source.fetch(lambda name: True, report)
    assert mx.array_equal(logits(source.load("stored")), logits(find_model(str(sharded), report).load("stored")))


def test_a_repository_without_an_index_is_read_by_its_headers(hub: HubServer, sharded: Path, report: Report) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    source = find_model("org/tiny", report)
    assert source.fetch(of_layers(3), report)
    assert hub.fetched() == {SHARD.format(5)}


def test_headers_are_asked_for_once(hub: HubServer, report: Report) -> None:
    find_model("org/tiny", report).load("stored")
    asked = len(hub.log)
    find_model("org/tiny", report).load("stored")
    assert not [entry for entry in hub.log[asked:] if entry[1].endswith(".safetensors")]


def test_a_revision_can_be_named(hub: HubServer, report: Report) -> None:
    assert find_model(f"org/tiny@{COMMIT}", report).folder.name == COMMIT


def test_what_is_in_the_cache_needs_no_network(hub: HubServer, report: Report, tmp_path: Path) -> None:
    source = find_model("org/tiny", report)
    source.fetch(of_layers(0), report)
    source.load("stored")
    assert _in_a_process(HF_HUB_OFFLINE="1") == ["fetched False", "sum True", "zeros 0.0"]


def test_the_environment_names_the_endpoint(hub: HubServer) -> None:
    assert _in_a_process(HF_ENDPOINT=hub.address) == ["fetched True", "sum True", "zeros 0.0"]
    assert hub.fetched() == {SHARD.format(2)}


def test_a_dead_endpoint_does_not_matter_for_what_is_in_the_cache(
    hub: HubServer, report: Report, dead: Callable[[], None]
) -> None:
    find_model("org/tiny", report).fetch(lambda name: True, report)
    dead()
    source = find_model("org/tiny", report)
    assert not source.fetch(lambda name: True, report)
    assert logits(source.load("stored")).any()


def test_a_dead_endpoint_is_told(dead: Callable[[], None]) -> None:
    dead()
    _refused("org/tiny", "http://127.0.0.1:9 does not answer, and org/tiny is not wholly in the cache")


def test_an_endpoint_that_dies_before_the_weights_is_told(
    hub: HubServer, report: Report, dead: Callable[[], None]
) -> None:
    source = find_model("org/tiny", report)
    dead()
    with pytest.raises(UserError, match="does not answer"):
        source.load("stored")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("org/nothing", "org/nothing is neither a file or folder here nor a repository on http://127.0.0.1"),
        ("org/gated", "org/gated is gated: accept its terms"),
        ("org/broken", "answers 500 for org/broken: try again later"),
        ("org/..bad..", "is no name of a Hugging Face repository"),
    ],
)
def test_what_the_hub_refuses_is_told(hub: HubServer, model: str, sentence: str) -> None:
    _refused(model, sentence)


def test_a_repository_without_weights_is_told(hub: HubServer, sharded: Path) -> None:
    for file in sharded.glob("model*"):
        file.unlink()
    _refused("org/tiny", "org/tiny has no weights that mlx-lm can read")


def test_a_full_disk_is_told() -> None:
    with pytest.raises(UserError, match=r"The disk is full: make room in .* for org/tiny"), explained("org/tiny"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_cached_and_offline_is_told(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _refused("org/tiny", "org/tiny is not wholly in the cache, and HF_HUB_OFFLINE is set")


def _in_a_process(**settings: str) -> list[str]:
    environment = {**os.environ, "HF_HUB_CACHE": constants.HF_HUB_CACHE, **settings}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-3:]


def _refused(model: str, sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        find_model(model, print)
    assert sentence in str(refusal.value)
