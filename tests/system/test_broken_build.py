"""A copy of MLX that is not whole: one sentence with the files it lacks, exit code 3, and no second try."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.server import MLXSERVE, Server, serve_command, write_hostfile

Own = Callable[[Server], Server]
IN_TIME = 60.0


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The libmlx of a copy of MLX, to be broken; those who have `tmp_path` in PYTHONPATH get that copy."""
    spec = importlib.util.find_spec("mlx")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for folder in (package := Path(spec.submodule_search_locations[0]), package.parent / "mlx_cpu.libs"):
        if folder.exists():
            shutil.copytree(folder, tmp_path / folder.name, copy_function=os.link)
    return tmp_path / "mlx" / "lib" / "libmlx.so"


def remove(library: Path) -> None:
    library.unlink()


def empty(library: Path) -> None:
    library.unlink()
    library.touch()


def cut(library: Path) -> None:
    """As an interrupted copy leaves it: the loader reads past its end, which kills the process."""
    content = library.read_bytes()
    library.unlink()
    library.write_bytes(content[: len(content) // 2])


def ends_as_broken(server: Server, words: str) -> None:
    assert server.exit_code(IN_TIME) == 3
    (line,) = (line for line in server.output.splitlines() if "error: " in line)
    assert "mlxserve: error: MLX does not work here" in line
    assert words in line
    assert "Install mlx anew" in line
    assert "Traceback" not in server.output
    assert "starting a new engine" not in server.output
    server.wait_until_gone(1)


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (remove, "/mlx/lib/libmlx.so (missing)"),
        (empty, "/mlx/lib/libmlx.so (0 bytes)"),
        (cut, "the engine process was killed by SIGBUS as it loaded MLX"),
    ],
)
def test_serve_names_the_files_and_ends_with_code_3(
    own: Own, tmp_path: Path, library: Path, breaks: Callable[[Path], None], words: str
) -> None:
    breaks(library)
    port = free_port()
    ends_as_broken(own(Server(serve_command(1, port), port, {"PYTHONPATH": str(tmp_path)})), words)


def test_check_ends_alike(own: Own, tmp_path: Path, library: Path) -> None:
    library.unlink()
    ends_as_broken(own(Server([MLXSERVE, "check"], 0, {"PYTHONPATH": str(tmp_path)})), f"{library} (missing)")


def test_a_rank_does_not_wait_for_the_others(own: Own, tmp_path: Path, library: Path) -> None:
    library.unlink()
    place = {"MLX_RANK": "1", "MLX_HOSTFILE": str(write_hostfile(tmp_path, 2))}
    rank = Server([MLXSERVE, "serve", "--model", "demo"], 0, {"PYTHONPATH": str(tmp_path), **place})
    ends_as_broken(own(rank), f"{library} (missing)")


def test_version_works_without_mlx(own: Own, tmp_path: Path, library: Path) -> None:
    library.unlink()
    server = own(Server([MLXSERVE, "version"], 0, {"PYTHONPATH": str(tmp_path)}))
    assert server.exit_code(IN_TIME) == 0
    assert "\nmlx 0." in server.output
