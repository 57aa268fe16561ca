from __future__ import annotations

import pytest

from mlxserve.engine import prefix_record
from mlxserve.engine.memory import Bound
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.prefix_record import PrefixRecord
from mlxserve.pipeline.footprint import Footprint


@pytest.fixture
def index() -> PrefixIndex:
    return PrefixIndex([Bound(Footprint(token_bytes=10), 10_000)], cuttable=True)


def test_the_index_is_written_down_when_it_has_changed_and_there_is_time(index: PrefixIndex) -> None:
    written = list[bytes]()
    record = PrefixRecord(index, written.append)
    record.keep(idle=True)
    assert written == []
    index.insert(list(range(50)), 0, 0)
    record.keep(idle=False)
    assert written == []
    record.keep(idle=True)
    record.keep(idle=True)
    assert written == [index.state()]


def test_under_load_it_is_written_down_in_the_end(index: PrefixIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[bytes]()
    record = PrefixRecord(index, written.append)
    index.insert(list(range(50)), 0, 0)
    monkeypatch.setattr(prefix_record, "LONGEST_UNWRITTEN", 0.0)
    record.keep(idle=False)
    assert written == [index.state()]


def test_what_a_restart_has_dropped_is_written_down_too(index: PrefixIndex) -> None:
    index.insert(list(range(50)), 0, 0)
    index.insert(list(range(100, 150)), 0, 0)
    first, _ = (span.key for start in (0, 100) for span in index.match(list(range(start, start + 51))).spans)
    after = PrefixIndex([Bound(Footprint(token_bytes=10), 10_000)], cuttable=True)
    written = list[bytes]()
    record = PrefixRecord(after, written.append)
    after.restore(index.state(), [{first: 50}])
    record.keep(idle=True)
    assert written == [after.state()]


def test_a_split_is_written_down_at_once_since_its_files_are(index: PrefixIndex) -> None:
    written = list[bytes]()
    record = PrefixRecord(index, written.append)
    index.insert(list(range(50)), 0, 0)
    record.keep(idle=True)
    index.insert([*range(30), *range(200, 220)], 0, 0)
    record.keep(idle=False)
    assert written[1:] == [index.state()]
