"""What rank 0 gives a rank that has nothing of the model, and what happens where that goes wrong."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest
from huggingface_hub import constants

from mlxserve.config import Place, Settings
from mlxserve.errors import RankLost, UserError
from mlxserve.models.folder import ModelSource
from mlxserve.models.progress import Report
from mlxserve.models.source import find_model
from mlxserve.models.supply.choice import find_for_worker
from mlxserve.models.supply.kept import kept_folder
from mlxserve.models.supply.source import SuppliedSource
from mlxserve.models.weight_header import WeightHeader
from mlxserve.pipeline.loading import load_source
from mlxserve.pipeline.plan import Item, Open
from mlxserve.pipeline.stage import Stage

from .hub_server import COMMIT, HubServer
from .lines import taker_of
from .test_hub import SHARD
from .tiny import tiny_config, tiny_weights, write_folder, write_tiny_gguf

TOKENS = [[3, 1, 4, 1, 5]]
LAYERS_OF_RANK_1 = ("model.layers.2.", "model.layers.3.")
NOWHERE = "/there/is/no/such/model"


def of_worker(source: ModelSource, report: Report, dtype: str = "float32") -> Stage:
    return load_source(source, settings(1, dtype), report).stage


def settings(rank: int, dtype: str = "float32") -> Settings:
    return Settings(place=Place(rank, 2), dtype=dtype, split=(2, 2))  # type: ignore[arg-type]


def through_both(origin: ModelSource, second: Stage, report: Report, dtype: str = "float32") -> mx.array:
    """Logits of `TOKENS`, through rank 0's layers and those of `second`."""
    first = load_source(origin, settings(0, dtype), report).stage
    item = Item(1, TOKENS, [], "all")
    hidden = None
    for stage in (first, second):
        stage.apply(Open(1, 1))
        hidden = stage.forward(item, hidden)
    assert hidden is not None
    return first.finish(hidden, item)


def layer_bytes(folder: Path, *layers: int) -> int:
    wanted = tuple(f"model.layers.{layer}." for layer in layers)
    return sum(
        length
        for file in folder.glob("model*.safetensors")
        for name, (_, length) in WeightHeader.read(file).tensors.items()
        if name.startswith(wanted)
    )


@pytest.mark.parametrize("dtype", ["float32", "stored"])
def test_a_rank_without_the_model_is_given_its_layers_and_together_they_are_the_model(
    sharded: Path, report: Report, dtype: str
) -> None:
    origin = find_model(str(sharded), report)
    second = of_worker(find_for_worker(NOWHERE, taker_of(origin), None, report), report, dtype)
    whole = find_model(str(sharded), report).load(dtype)  # type: ignore[arg-type]
    assert mx.array_equal(through_both(origin, second, report, dtype), whole(mx.array(TOKENS)))


def test_it_is_given_the_bytes_of_its_layers_and_no_others(
    sharded: Path, report: Report, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    of_worker(find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report)), None, report), report)
    assert f"took {layer_bytes(sharded, 2, 3):,} bytes of weights from rank 0" in caplog.text
    assert "weights from rank 0 100 %" in lines


def test_config_and_tokenizer_come_along(sharded: Path, report: Report) -> None:
    source = find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report)), None, report)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (source.folder / name).read_bytes() == (sharded / name).read_bytes()


def test_nothing_of_it_is_left_on_disk(sharded: Path, report: Report, cache: Path) -> None:
    source = find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report)), None, report)
    of_worker(source, report)
    assert not source.folder.exists()
    assert not kept_folder().exists()


def test_a_gguf_file_on_rank_0_is_enough(tmp_path: Path, report: Report) -> None:
    config = tiny_config("qwen2")
    write_tiny_gguf(tmp_path / "tiny.gguf", config, tiny_weights(config), "Q8_0")
    origin = find_model(str(tmp_path / "tiny.gguf"), report)
    second = of_worker(find_for_worker(NOWHERE, taker_of(origin), None, report), report)
    whole = find_model(str(tmp_path / "tiny.gguf"), report).load("float32")
    assert mx.array_equal(through_both(origin, second, report), whole(mx.array(TOKENS)))


def flipped_once() -> Callable[[int, bytearray], bool]:
    """Flips one bit in the first piece that comes late enough to be of weights."""
    done = threading.Event()

    def change(before: int, data: bytearray) -> bool:
        if before > 50_000 and not done.is_set():
            done.set()
            data[len(data) // 2] ^= 4
        return True

    return change


def test_what_arrives_damaged_is_asked_for_again(
    sharded: Path, report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    origin = find_model(str(sharded), report)
    taker = taker_of(origin, change=flipped_once())
    second = of_worker(find_for_worker(NOWHERE, taker, None, report), report)
    assert "arrived damaged from rank 0, and is asked for again" in caplog.text
    whole = find_model(str(sharded), report).load("float32")
    assert mx.array_equal(through_both(origin, second, report), whole(mx.array(TOKENS)))


def test_what_arrives_damaged_twice_is_told(sharded: Path, report: Report) -> None:
    def change(before: int, data: bytearray) -> bool:
        if before > 50_000:
            data[len(data) // 2] ^= 4
        return True

    source = find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report), change=change), None, report)
    with pytest.raises(UserError, match=r"of the model arrived damaged from rank 0 twice: a cable, an adapter or"):
        of_worker(source, report)


def test_an_offer_that_arrives_damaged_is_a_lost_rank_which_is_tried_again(sharded: Path, report: Report) -> None:
    def change(before: int, data: bytearray) -> bool:
        data[-1] ^= 1
        return True

    with pytest.raises(RankLost, match=r"rank 0 stopped sending .* a message arrived damaged"):
        find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report), change=change), None, report)


def test_a_rank_0_that_is_lost_while_it_sends_is_told_as_a_lost_rank(sharded: Path, report: Report) -> None:
    taker = taker_of(find_model(str(sharded), report), change=lambda before, data: before < 50_000)
    source = find_for_worker(NOWHERE, taker, None, report)
    with pytest.raises(RankLost, match="rank 0 stopped sending what this rank lacks of the model: the connection was"):
        of_worker(source, report)


def test_a_file_of_rank_0_that_is_cut_short_meanwhile_is_told_there(sharded: Path, report: Report) -> None:
    reasons: list[str] = []
    source = find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report), reasons.append), None, report)
    (sharded / SHARD.format(4)).write_bytes(b"")
    with pytest.raises(RankLost):
        of_worker(source, report)
    assert reasons == [f"{sharded / SHARD.format(4)} is cut short: get it again"]


def test_a_rank_that_has_the_model_is_given_nothing(sharded: Path, report: Report, tmp_path: Path) -> None:
    shutil.copytree(sharded, tmp_path / "copy")
    source = find_for_worker(str(tmp_path / "copy"), taker_of(find_model(str(sharded), report)), None, report)
    assert not isinstance(source, SuppliedSource)


@pytest.mark.parametrize("damage", ["empty", "cut short"])
def test_a_rank_whose_folder_is_not_whole_is_given_what_it_needs(
    sharded: Path, report: Report, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "copy").mkdir()
    if damage == "cut short":
        shutil.copytree(sharded, tmp_path / "copy", dirs_exist_ok=True)
        (tmp_path / "copy" / SHARD.format(2)).write_bytes(b"")
    source = find_for_worker(str(tmp_path / "copy"), taker_of(find_model(str(sharded), report)), None, report)
    assert isinstance(source, SuppliedSource)
    assert "Rank 0 is asked for what this rank needs." in caplog.text


def test_what_is_here_of_an_incomplete_folder_is_not_given(
    sharded: Path, report: Report, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shutil.copytree(sharded, tmp_path / "copy")
    (tmp_path / "copy" / SHARD.format(4)).unlink()
    (tmp_path / "copy" / "config.json").unlink()
    origin = find_model(str(sharded), report)
    second = of_worker(find_for_worker(str(tmp_path / "copy"), taker_of(origin), None, report), report)
    assert f"took {layer_bytes(sharded, 2):,} bytes" in caplog.text
    whole = find_model(str(sharded), report).load("float32")
    assert mx.array_equal(through_both(origin, second, report), whole(mx.array(TOKENS)))


def test_what_the_hubs_cache_has_is_not_given(
    hub: HubServer, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    origin = find_model("org/tiny", report)
    origin.fetch(lambda name: True, report)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub of the worker"))
    find_model("org/tiny", report).fetch(lambda name: name.startswith(LAYERS_OF_RANK_1), report)
    hub.log.clear()
    caplog.set_level("INFO")
    of_worker(find_for_worker("org/tiny", taker_of(origin), None, report), report)
    assert not hub.log
    assert "took" not in caplog.text


def test_what_an_ended_process_left_is_removed(sharded: Path, report: Report) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = Path(tempfile.mkdtemp(prefix=f"mlxserve-given-{ended.pid}-"))
    mine = Path(tempfile.mkdtemp(prefix=f"mlxserve-given-{os.getpid()}-"))
    find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report)), None, report).close()
    assert not left.exists()
    assert mine.exists()
    mine.rmdir()


def test_a_disk_that_has_no_room_for_the_small_files_is_told(
    sharded: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/full")
    with pytest.raises(UserError, match=r"/dev/null/full does not take the small files of .*: Not a directory; make"):
        find_for_worker(NOWHERE, taker_of(find_model(str(sharded), report)), None, report)


def test_another_model_under_the_same_name_is_refused(sharded: Path, report: Report, tmp_path: Path) -> None:
    config = tiny_config("qwen2")
    other = write_folder(tmp_path / "other", config, tiny_weights(config, seed=1))
    with pytest.raises(UserError, match=r"is not the same here as on rank 0: .*safetensors differs from rank 0's"):
        find_for_worker(str(other), taker_of(find_model(str(sharded), report)), None, report)


def test_a_repository_that_rank_0_has_wholly_is_given_by_it_without_asking_the_hub(
    hub: HubServer, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = find_model("org/tiny", report)
    origin.fetch(lambda name: True, report)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub of the worker"))
    hub.log.clear()
    second = of_worker(find_for_worker("org/tiny", taker_of(origin), None, report), report)
    assert not hub.log
    whole = origin.load("float32")
    assert mx.array_equal(through_both(origin, second, report), whole(mx.array(TOKENS)))


def test_a_repository_that_rank_0_has_only_in_part_is_downloaded_at_the_same_commit(
    hub: HubServer, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = find_model("org/tiny", report)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub of the worker"))
    source = find_for_worker("org/tiny", taker_of(origin), None, report)
    assert source.commit == COMMIT
    of_worker(source, report)
    assert hub.fetched() == {SHARD.format(4), SHARD.format(5)}


def test_where_the_hub_answers_rank_0_alone_that_downloads_for_all(
    hub: HubServer, sharded: Path, report: Report
) -> None:
    origin = find_model("org/tiny", report)
    second = of_worker(SuppliedSource("org/tiny", taker_of(origin)), report)
    assert hub.fetched() == {SHARD.format(number) for number in range(1, 6)}
    whole = find_model(str(sharded), report).load("float32")
    assert mx.array_equal(through_both(origin, second, report), whole(mx.array(TOKENS)))


class Kept:
    """A worker that keeps what it is given, start after start."""

    def __init__(self, folder: Path, report: Report, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        self._folder = folder
        self._report = report
        self._caplog = caplog

    def start(self, layers: tuple[int, int] = (2, 2)) -> str:
        """What it logs meanwhile."""
        self._caplog.clear()
        origin = find_model(str(self._folder), self._report)
        source = find_for_worker(NOWHERE, taker_of(origin), 1, self._report)
        second = load_source(source, msgspec.structs.replace(settings(1), split=layers), self._report).stage
        if layers == (2, 2):
            assert mx.array_equal(through_both(origin, second, self._report), origin.load("float32")(mx.array(TOKENS)))
        return self._caplog.text


@pytest.fixture
def kept(sharded: Path, report: Report, caplog: pytest.LogCaptureFixture) -> Kept:
    return Kept(sharded, report, caplog)


def test_what_is_kept_needs_not_be_given_again(kept: Kept, sharded: Path) -> None:
    assert f"took {layer_bytes(sharded, 2, 3):,} bytes" in kept.start()
    assert "took" not in kept.start()


def test_of_what_is_kept_only_what_another_split_wants_besides_is_given(kept: Kept, sharded: Path) -> None:
    kept.start()
    assert f"took {layer_bytes(sharded, 1):,} bytes" in kept.start((1, 3))
    assert "took" not in kept.start((1, 3))


@pytest.mark.parametrize("place", [100, -200, -3])
def test_what_is_kept_and_damaged_is_removed_and_given_again(kept: Kept, sharded: Path, place: int) -> None:
    kept.start()
    (file,) = kept_folder().rglob("*.weights")
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    said = kept.start()
    assert f"kept weights {file} are removed" in said
    assert f"took {layer_bytes(sharded, 2, 3):,} bytes" in said
    assert "took" not in kept.start()


def test_what_is_kept_of_files_that_have_changed_on_rank_0_is_not_used(kept: Kept, sharded: Path) -> None:
    kept.start()
    config = tiny_config("qwen2")
    write_folder(sharded, config, tiny_weights(config, seed=1))
    assert "took" in kept.start()
    assert len(list(kept_folder().iterdir())) == 1


def test_a_transfer_that_breaks_off_keeps_nothing(kept: Kept, sharded: Path, report: Report) -> None:
    taker = taker_of(find_model(str(sharded), report), change=lambda before, data: before < 50_000)
    with pytest.raises(RankLost):
        of_worker(find_for_worker(NOWHERE, taker, 1, report), report)
    assert "took" in kept.start()
    assert [file.suffix for file in kept_folder().rglob("*") if file.is_file()] == [".weights"]


def test_a_disk_without_room_is_told_and_the_rank_serves(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 0, 10))  # type: ignore[attr-defined]
    assert "the weights are not kept in" in kept.start()


def test_a_disk_that_fills_up_is_told_and_the_rank_serves(kept: Kept) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        said = kept.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the weights are not kept in" in said
    assert not [file for file in kept_folder().rglob("*") if file.is_file()]
