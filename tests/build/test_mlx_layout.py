"""Where the files of MLX's wheels go, and what a build must not go on without."""

from __future__ import annotations

import importlib.util
import shutil
import struct
from pathlib import Path

import pytest
from mlx_layout import LayoutError, layout

from tests.build.conftest import Mac, own
from tests.build.mac_tools import LOADS, load_commands, write_load_commands


@pytest.mark.parametrize(("macos", "libraries"), [("14", ["libmlx.dylib"]), ("26", ["libmlx.dylib", "libjaccl.dylib"])])
def test_libraries_and_metallib_lie_at_mlx_lib_and_are_linked_at_the_top(
    site: Mac, macos: str, libraries: list[str]
) -> None:
    package = site(macos) / "mlx"
    found = layout(package, "darwin")
    (core,) = package.glob("core.*.so")
    assert found.binaries == [
        (f"mlx/{core.name}", str(core)),
        *((f"mlx/lib/{name}", str(package / "lib" / name)) for name in libraries),
    ]
    assert found.datas == [("mlx/lib/mlx.metallib", str(package / "lib" / "mlx.metallib"))]
    assert found.symlinks == [(name, f"mlx/lib/{name}") for name in (*libraries, "mlx.metallib")]


def test_on_linux_there_are_two_libraries_and_no_metallib() -> None:
    spec = importlib.util.find_spec("mlx")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(spec.submodule_search_locations[0])
    found = layout(package, "linux")
    (core,) = package.glob("core.*.so")
    assert found.binaries == [(f"mlx/{core.name}", str(core)), ("mlx/lib/libmlx.so", str(package / "lib/libmlx.so"))]
    assert (found.datas, found.symlinks) == ([], [])


@pytest.mark.parametrize("name", ["lib/mlx.metallib", "lib/libmlx.dylib", "lib/libjaccl.dylib"])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(LayoutError, match=str(package / name)):
        layout(package, "darwin")


def test_an_empty_metallib_is_named(package: Path) -> None:
    (package / "lib" / "mlx.metallib").unlink()
    (package / "lib" / "mlx.metallib").touch()
    with pytest.raises(LayoutError, match=r"missing or empty: .*mlx\.metallib"):
        layout(package, "darwin")


def test_a_package_without_its_extension_is_refused(package: Path) -> None:
    next(package.glob("core.*.so")).unlink()
    with pytest.raises(LayoutError, match=r"has 0 files named core\.\*\.so"):
        layout(package, "darwin")


def test_wheels_for_two_versions_of_macos_are_refused(package: Path, site: Mac) -> None:
    (core,) = package.glob("core.*.so")
    core.unlink()
    shutil.copy(site("14") / "mlx" / core.name, core)
    with pytest.raises(LayoutError, match=rf"{core.name} 14\.0, libmlx\.dylib 26\.2"):
        layout(package, "darwin")


def test_mlx_for_macos_26_without_jaccl_is_refused(package: Path) -> None:
    libmlx = own(package / "lib" / "libmlx.dylib")
    commands = load_commands(libmlx)
    write_load_commands(libmlx, [c for c in commands if not (c[0] in LOADS and b"libjaccl" in c[1])])
    with pytest.raises(LayoutError, match=r"for macOS 26\.2 but does not load libjaccl\.dylib"):
        layout(package, "darwin")


def test_another_processor_is_refused(package: Path) -> None:
    libmlx = own(package / "lib" / "libmlx.dylib")
    content = bytearray(libmlx.read_bytes())
    struct.pack_into("<I", content, 4, 0x01000007)
    libmlx.write_bytes(content)
    with pytest.raises(LayoutError, match=r"libmlx\.dylib is for x86_64, not arm64"):
        layout(package, "darwin")
