"""What `mlxserve version` says of an installed and of a packed program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlxserve import bundle, versions


def wheel(folder: Path, *tags: str) -> None:
    """An installed distribution named mlx."""
    (folder / "mlx-0.99.dist-info").mkdir()
    (folder / "mlx-0.99.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mlx\nVersion: 0.99\n")
    lines = ["Wheel-Version: 1.0", *(f"Tag: {tag}" for tag in tags)]
    (folder / "mlx-0.99.dist-info" / "WHEEL").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        (["cp311-cp311-macosx_26_0_arm64"], "0.99 (macosx_26_0_arm64)"),
        (["cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64"],
         "0.99 (manylinux2014_x86_64, manylinux_2_17_x86_64)"),
        ([], "0.99"),
    ],
)  # fmt: skip
def test_mlx_is_named_with_the_platform_of_its_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: list[str], line: str
) -> None:
    wheel(tmp_path, *tags)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert versions.mlx_version() == line


def test_without_mlx_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert versions.mlx_version() == "is not installed"


def test_a_packed_program_names_its_file_its_build_and_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "mlxserve", tmp_path / "cache"
    folder.mkdir()
    (folder / "build-id").write_text("3f2a00112233\n")
    file.touch()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(folder / "mlxserve"))
    monkeypatch.setenv(bundle.FILE, str(file))
    bundle.build_id.cache_clear()
    lines = list(versions.lines())
    bundle.build_id.cache_clear()
    assert lines[1] == "build 3f2a00112233"
    assert lines[-2:] == [f"program {file}", f"unpacked {folder}"]
