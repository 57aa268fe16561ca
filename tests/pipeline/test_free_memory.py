from __future__ import annotations

from pathlib import Path

import pytest

from mlxserve.config import Place
from mlxserve.pipeline.addresses import ranks_here, ranks_on_this_machine
from mlxserve.pipeline.control_groups import room_in_groups
from mlxserve.pipeline.free_memory import available_bytes, free_bytes, share, usable_bytes

MEMINFO = "MemTotal:       16000000 kB\nMemFree:  100 kB\nMemAvailable:    8000000 kB\n"


def group(folder: Path, limit: str, usage: int, files: int) -> None:
    """A control group of version 2 of whose usage `files` bytes are files that were read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 7\nfile 9\ninactive_file {files - 30}\nactive_file 30\n")


def old_group(folder: Path, limit: int, usage: int, files: int) -> None:
    """The same of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"inactive_file 0\ntotal_inactive_file {files - 30}\ntotal_active_file 30\n")


def rooms(tmp_path: Path, membership: str) -> list[int]:
    (tmp_path / "cgroup").write_text(membership)
    return room_in_groups(tmp_path / "cgroup", tmp_path / "fs")


def test_alone_on_a_machine_a_rank_has_what_is_available() -> None:
    assert available_bytes(MEMINFO) == 8_000_000 * 1024
    assert share(at_first=1000, now=700, active=300, sharing=1) == 700
    assert share(at_first=1000, now=500, active=300, sharing=1) == 500, "others have taken some meanwhile"


def test_who_loads_before_the_others_on_its_machine_does_not_take_their_part() -> None:
    first = share(at_first=1000, now=700, active=300, sharing=2)
    last = share(at_first=1000, now=400, active=300, sharing=2)
    assert (first, last) == (200, 200)
    assert share(at_first=1000, now=400, active=600, sharing=2) == 0


def test_a_container_has_no_more_than_its_limit_leaves(tmp_path: Path) -> None:
    group(tmp_path / "fs", "1000", usage=400, files=150)
    assert rooms(tmp_path, "0::/\n") == [1000 - 400 + 150]
    group(tmp_path / "fs", "1000", usage=1200, files=30)
    assert rooms(tmp_path, "0::/\n") == [0]


def test_a_group_is_bounded_by_those_that_it_is_in(tmp_path: Path) -> None:
    group(tmp_path / "fs" / "user" / "job", "max", usage=100, files=30)
    group(tmp_path / "fs" / "user", "500", usage=100, files=30)
    assert rooms(tmp_path, "0::/user/job\n") == [430]


def test_containers_of_the_older_kind_have_a_limit_too(tmp_path: Path) -> None:
    old_group(tmp_path / "fs" / "memory", 1000, usage=300, files=50)
    assert rooms(tmp_path, "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n") == [750]


def test_where_no_group_has_a_limit_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    assert rooms(tmp_path, "0::/user/job\n") == []
    assert room_in_groups(tmp_path / "nothing", tmp_path / "fs") == []


@pytest.mark.parametrize(
    ("place", "ranks"),
    [
        (Place(), 1),
        (Place(0, 2, "ring", ("127.0.0.1:1", "127.0.0.1:2")), 2),
        (Place(1, 3, "ring", ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2")), 2),
        (Place(0, 3, "ring", ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2")), 1),
        (Place(0, 2, "mpi"), 2),
        (Place(0, 2, "jaccl"), 1),
    ],
)
def test_the_place_tells_how_many_ranks_share_the_machine(place: Place, ranks: int) -> None:
    assert ranks_on_this_machine(place) == ranks
    assert place.rank in ranks_here(place)


def test_this_machine_has_memory_to_spare() -> None:
    assert free_bytes(Place(), usable_bytes()) > 1 << 20
