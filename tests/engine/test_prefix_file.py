from __future__ import annotations

from pathlib import Path

import pytest

from mlxserve.engine.memory import Bound
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.prefix_file import NAME, PrefixFile
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.plan import Store

BOUND = Bound(Footprint(token_bytes=10), 10_000)
TOKENS = list(range(50))


def index() -> tuple[PrefixIndex, dict[str, int]]:
    """One with something in it, and the segments that each rank has then."""
    filled = PrefixIndex([BOUND], cuttable=True)
    stored = filled.insert(TOKENS, 0, 0)
    return filled, {one.key: one.stop - one.start for one in stored if isinstance(one, Store)}


def test_what_is_saved_is_found_after_a_restart(tmp_path: Path) -> None:
    filled, segments = index()
    PrefixFile(tmp_path / "new").keep(filled, idle=True)
    after = PrefixIndex([BOUND], cuttable=True)
    assert after.restore(PrefixFile(tmp_path / "new").load(), [segments]) == []
    assert after.match(TOKENS).length == 49


def test_it_is_written_when_something_has_changed_and_there_is_time(tmp_path: Path) -> None:
    filled, _ = index()
    file = PrefixFile(tmp_path)
    file.keep(filled, idle=False)
    assert file.load() == b""
    file.keep(filled, idle=True)
    assert file.load() == filled.state()
    (tmp_path / NAME).unlink()
    file.keep(filled, idle=True)
    assert file.load() == b""
    filled.insert(list(range(100, 150)), 0, 0)
    file.keep(filled, idle=True)
    assert file.load() == filled.state()


def test_half_a_file_is_an_empty_index(tmp_path: Path) -> None:
    filled, segments = index()
    file = PrefixFile(tmp_path)
    file.keep(filled, idle=True)
    whole = file.load()
    for length in (0, 1, 15, 16, len(whole) // 2, len(whole) - 1):
        (tmp_path / NAME).write_bytes(whole[:length])
        after = PrefixIndex([BOUND], cuttable=True)
        assert [drop.key for drop in after.restore(file.load(), [segments])] == list(segments)
        assert len(after) == 0


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    filled, _ = index()
    PrefixFile(tmp_path / "file" / "folder").keep(filled, idle=True)
    assert "cannot be saved" in caplog.text
