from __future__ import annotations

import logging
from pathlib import Path

import mlx.core as mx
import pytest

from mlxserve.pipeline.plan import Drop, Keep, Open, Span, Split, Store
from mlxserve.pipeline.segment_bytes import packed, unpacked
from mlxserve.pipeline.segment_files import SegmentFiles, on_all_ranks
from mlxserve.pipeline.segments import Segment

from .one_rank import TinyModel, close

PLENTY = 1 << 30
PROMPT = list(range(3, 33))


def resumed(folder: Path, model_type: str = "qwen2", bound: int = PLENTY) -> tuple[TinyModel, SegmentFiles]:
    """A model that is started with what `folder` holds."""
    model, files = TinyModel(model_type), SegmentFiles(folder)
    model.stage.segments.resume(files.read(bound), files)
    return model, files


def store_two(folder: Path, model_type: str = "qwen2") -> TinyModel:
    model, files = resumed(folder, model_type)
    model.do(Open(1, 1))
    model.read(1, [PROMPT[:20]])
    model.do(Store(1, 0, 0, 20, "a"))
    model.read(1, [PROMPT[20:]])
    model.do(Store(1, 0, 20, 30, "b"), Keep(1, []))
    files.flush()
    return model


@pytest.mark.parametrize("model_type", ["qwen2", "lfm2", "llama", "deepseek_v3", "llama4", "deepseek_v41", "rwkv7"])
def test_after_a_restart_a_prompt_goes_on_from_what_was_stored(tmp_path: Path, model_type: str) -> None:
    sizes = store_two(tmp_path, model_type).stage.segments.sizes
    model, _ = resumed(tmp_path, model_type)
    assert model.stage.segments.sizes == sizes
    assert model.stage.segments.lengths == {"a": 20, "b": 10}
    model.do(Open(1, 1, [[Span("a", 20), Span("b", 10)]]))
    assert close(model.read(1, [[9, 8]])[0], model.fresh([*PROMPT, 9, 8]))


def test_splits_and_drops_outlive_a_restart(tmp_path: Path) -> None:
    store_two(tmp_path)
    model, files = resumed(tmp_path)
    model.do(Split("a", 5, "head"), Drop("b"))
    files.flush()
    again, _ = resumed(tmp_path)
    assert again.stage.segments.lengths == {"a": 15, "head": 5}
    again.do(Open(1, 1, [[Span("head", 5), Span("a", 15)]]))
    assert close(again.read(1, [[9, 8]])[0], again.fresh([*PROMPT[:20], 9, 8]))


def test_nobody_but_the_owner_may_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    store_two(folder)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def damage_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def leave_half_written(path: Path) -> None:
    path.rename(path.with_name(path.name + ".part"))


def fill_with_something_else(path: Path) -> None:
    path.write_text("not a segment")


def take_the_name_of_another(path: Path) -> None:
    path.rename(path.with_name("0" * 32 + ".segment"))


@pytest.mark.parametrize(
    "harm", [damage_a_byte, cut_off, leave_half_written, fill_with_something_else, take_the_name_of_another]
)
def test_a_harmed_file_is_removed_with_a_line_in_the_log(
    tmp_path: Path, harm: object, caplog: pytest.LogCaptureFixture
) -> None:
    store_two(tmp_path)
    assert callable(harm)
    harm(min(tmp_path.iterdir()))
    with caplog.at_level(logging.WARNING):
        model, _ = resumed(tmp_path)
    assert len(model.stage.segments.lengths) == 1
    assert "is removed" in caplog.text
    assert len(list(tmp_path.iterdir())) == 1


def test_the_newest_are_read_as_far_as_the_bound_reaches(tmp_path: Path) -> None:
    sizes = store_two(tmp_path).stage.segments.sizes
    model, _ = resumed(tmp_path, bound=sizes["a"])
    assert set(model.stage.segments.lengths) == {"b"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_told_once_and_serving_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with caplog.at_level(logging.WARNING):
        model = store_two(in_the_way / "folder")
    assert set(model.stage.segments.lengths) == {"a", "b"}
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "stored prefixes are no longer kept on disk"
    ]


def test_the_index_is_whole_or_not_there(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path)
    assert files.read_index() == b""
    files.write_index(b"words")
    files.flush()
    assert files.read_index() == b"words"
    assert files.read(PLENTY) == {}
    assert files.read_index() == b"words"
    damage_a_byte(tmp_path / "index")
    assert files.read_index() == b""


def test_every_type_of_array_comes_back_bit_by_bit() -> None:
    arrays = [mx.random.normal((1, 2, 3, 5)).astype(kind) for kind in (mx.float32, mx.float16, mx.bfloat16)]
    arrays += [mx.array([[1, 2]], mx.uint32), mx.zeros((1, 2, 3, 0))]
    snapshot = {"keys": arrays[0], "cache": [None, arrays[2]], "offset": 3, "lengths": None, "rotated": True}
    key, segment = unpacked(packed("k", Segment(3, [arrays, []], [snapshot])))
    assert (key, segment.tokens, segment.ranges[1]) == ("k", 3, [])
    for one, other in zip(segment.ranges[0], arrays, strict=True):
        assert one.dtype == other.dtype
        assert mx.array_equal(one, other).item()
    (found,) = segment.snapshots
    assert found["cache"][0] is found["lengths"] is None
    assert (found["offset"], found["rotated"]) == (3, True)
    assert mx.array_equal(found["cache"][1], arrays[2]).item()


def test_only_what_every_rank_has_alike_can_be_used() -> None:
    assert on_all_ranks([{"a": 3, "b": 4, "c": 5}, {"a": 3, "b": 2}]) == {"a": 3}
    assert on_all_ranks([{"a": 3}]) == {"a": 3}
