"""An application for Macs, made of today's wheels: it breaks no rule, and each rule is broken here on purpose."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dyld
import macho
import pytest
import verify
from frozen import Frozen

from tests.build import mac_tools
from tests.build.conftest import ROOT, Mac, own

LIB = Path("_internal/mlx/lib")
Break = Callable[[Path, Mac], object]


def core(folder: Path) -> Path:
    (found,) = (folder / "_internal" / "mlx").glob("core.*.so")
    return found


def rewritten(path: Path, *arguments: str) -> None:
    """Change the file's load commands and sign it again, as a build would."""
    mac_tools.install_name_tool([*arguments, str(own(path))])
    mac_tools.codesign([str(path)])


def patched(path: Path, offset: int, value: int) -> None:
    content = bytearray(own(path).read_bytes())
    struct.pack_into("<I", content, offset, value)
    path.write_bytes(content)


def replaced(path: Path, source: Path) -> None:
    path.unlink()
    shutil.copy(source, path)


def linked(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def without_command(path: Path, unwanted: Callable[[mac_tools.Command], bool]) -> None:
    commands = mac_tools.load_commands(path)
    mac_tools.write_load_commands(own(path), [command for command in commands if not unwanted(command)])


def with_load(path: Path, name: str) -> None:
    mac_tools.write_load_commands(own(path), [*mac_tools.load_commands(path), mac_tools.load_command(name)])
    mac_tools.codesign([str(path)])


BROKEN: list[tuple[str, str, Break]] = [
    ("executable", "is missing", lambda a, site: (a / "mlxserve").unlink()),
    ("executable", "may not be run", lambda a, site: own(a / "mlxserve").chmod(0o644)),
    ("executable", "not a program for macOS", lambda a, site: replaced(a / "mlxserve", Path(sys.executable))),
    ("executable", "not a program for macOS", lambda a, site: replaced(a / "mlxserve", core(a))),
    ("architecture", "is for x86_64, not arm64", lambda a, site: patched(a / LIB / "libmlx.dylib", 4, 0x01000007)),
    ("one_libmlx", "is a second", lambda a, site: shutil.copy(a / LIB / "libmlx.dylib", a / "_internal/mlx")),
    (
        "one_libmlx",
        "_internal/libmlx.dylib is a second libmlx",
        lambda a, site: replaced(a / "_internal" / "libmlx.dylib", a / LIB / "libmlx.dylib"),
    ),
    ("one_libmlx", "mlx/lib/libmlx.dylib is missing", lambda a, site: (a / LIB / "libmlx.dylib").unlink()),
    ("metallib", "mlx.metallib is missing", lambda a, site: (a / LIB / "mlx.metallib").unlink()),
    ("metallib", "is not a metallib", lambda a, site: replaced(a / LIB / "mlx.metallib", Path(__file__))),
    (
        "metallib_beside_libmlx",
        "loads _internal/libmlx.dylib, beside which MLX finds none of mlx.metallib, Resources/mlx.metallib",
        lambda a, site: (a / "_internal" / "mlx.metallib").unlink(),
    ),
    (
        "metallib_beside_libmlx",
        "loads _internal/libmlx.dylib",
        lambda a, site: linked(a / "_internal" / "mlx.metallib", "mlx/mlx.metallib"),
    ),
    ("links", "leads to mlx/old.dylib", lambda a, site: linked(a / "_internal" / "old.dylib", "mlx/old.dylib")),
    ("links", "out of the application", lambda a, site: linked(a / "_internal" / "x", str(a / LIB / "mlx.metallib"))),
    ("links", "out of the application", lambda a, site: linked(a / "_internal" / "libpython.dylib", "../mlxserve")),
    ("libraries", "loads @rpath/libmlx.dylib", lambda a, site: (a / "_internal" / "libmlx.dylib").unlink()),
    ("libraries", "loads @rpath/libjaccl.dylib", lambda a, site: (a / LIB / "libjaccl.dylib").unlink()),
    (
        "libraries",
        "loads /opt/homebrew/lib/libomp.dylib",
        lambda a, site: with_load(core(a), "/opt/homebrew/lib/libomp.dylib"),
    ),
    (  # libmlx's own rpath leads to libjaccl from the file's folder, but not from that of the symlink
        "libraries",
        "loads @rpath/libjaccl.dylib",
        lambda a, site: rewritten(
            core(a),
            *("-change", "@rpath/libmlx.dylib", "@loader_path/../libmlx.dylib"),
            *("-delete_rpath", "@loader_path/.."),
        ),
    ),
    ("rpaths", "in /Users/me/mlx/lib", lambda a, site: rewritten(core(a), "-add_rpath", "/Users/me/mlx/lib")),
    (
        "minimum",
        "is for macOS 14.0, libmlx for 26.2: install mlx and mlx-metal for one macOS",
        lambda a, site: replaced(a / LIB / "libjaccl.dylib", site("14") / "mlx" / "lib" / "libjaccl.dylib"),
    ),
    (
        "minimum",
        "_internal/Python is for macOS 27.1, libmlx for 26.2: freeze with a Python for an older macOS",
        lambda a, site: newer(shutil.copy(core(a), a / "_internal" / "Python")),
    ),
    (
        "jaccl",
        "does not load libjaccl.dylib",
        lambda a, site: without_command(
            a / LIB / "libmlx.dylib", lambda c: c[0] in mac_tools.LOADS and b"jaccl" in c[1]
        ),
    ),
    ("signatures", "not signed", lambda a, site: without_command(core(a), lambda c: c[0] == 0x1D)),
    ("signatures", "changed after it was signed, at byte 0", lambda a, site: patched(core(a), 24, 1)),
    ("signatures", "changed after it was signed", lambda a, site: patched(a / LIB / "libmlx.dylib", 9_000_000, 1)),
    ("signatures", "signature is cut off", lambda a, site: cut(a / LIB / "libmlx.dylib", 20_000_000)),
    ("signatures", "cannot be checked: ", lambda a, site: cut(a / LIB / "libmlx.dylib", 100)),
    ("signatures", "signature is damaged", lambda a, site: patched(core(a), macho.read(core(a)).signature.offset, 0)),
]


def cut(path: Path, length: int) -> None:
    os.truncate(own(path), length)


def newer(path: Path) -> None:
    """Ask for macOS 27.1."""
    content = path.read_bytes()
    command = next(data for kind, data in mac_tools.load_commands(path) if kind == 0x32)
    patched(path, content.index(command) + 12, 27 << 16 | 1 << 8)


@pytest.mark.parametrize("macos", ["14", "26"])
def test_what_pyinstaller_makes_of_todays_wheels_breaks_no_rule(collected: Mac, macos: str) -> None:
    found = verify.broken(Frozen(collected(macos), "darwin"), verify.MAC)
    assert found == {rule.__name__: [] for rule in verify.MAC}


@pytest.mark.parametrize(("rule", "words", "breaks"), BROKEN, ids=[f"{rule}: {words}" for rule, words, _ in BROKEN])
def test_a_rule_that_is_broken_is_named(application: Path, site: Mac, rule: str, words: str, breaks: Break) -> None:
    breaks(application, site)
    (checked,) = (each for each in verify.MAC if each.__name__ == rule)
    faults = verify.broken(Frozen(application, "darwin"), (checked,))[rule]
    assert any(words in fault for fault in faults), faults


def test_every_rule_is_broken_by_a_test() -> None:
    assert {rule for rule, _, _ in BROKEN} == {rule.__name__ for rule in verify.MAC}


def test_macos_loads_libmlx_by_the_symlink_at_the_top(collected: Mac) -> None:
    frozen = Frozen(collected("26"), "darwin")
    paths = {each.by for each in dyld.loads(frozen.main, frozen.images) if isinstance(each, dyld.Found)}
    assert {path.name: path.parent for path in paths} == {
        core(frozen.folder).name: frozen.internal / "mlx",
        "libmlx.dylib": frozen.internal,
        "libjaccl.dylib": frozen.internal,
    }


def test_macos_finds_a_library_by_the_rpaths_of_those_that_had_it_loaded(application: Path) -> None:
    rewritten(application / LIB / "libmlx.dylib", "-delete_rpath", "@loader_path/../..")
    found = verify.broken(Frozen(application, "darwin"), verify.MAC)
    assert [rule for rule, faults in found.items() if faults] == []


@pytest.mark.parametrize(("answer", "faults"), [("exit 0", 0), ("echo $3: invalid >&2; exit 1", 4)])
def test_apples_own_check_of_the_signatures_counts(
    application: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, faults: int
) -> None:
    (tmp_path / "codesign").write_text(f'#!/bin/sh\n[ "$1 $2" = "--verify --strict" ] || exit 2\n{answer}\n')
    (tmp_path / "codesign").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = list(verify.signed_for_macos(Frozen(application, "darwin")))
    assert len(found) == faults
    assert all("invalid: sign it again with `codesign -s - --force /" in fault for fault in found)


def test_what_pyinstaller_does_by_itself_would_find_neither_metallib_nor_jaccl(
    site: Mac, collect: Callable[..., Path]
) -> None:
    frozen = Frozen(collect(site("26") / "mlx", "without-layout"), "darwin")
    found = verify.broken(frozen, verify.MAC)
    assert [rule for rule, faults in found.items() if faults] == ["metallib_beside_libmlx", "libraries"]
    assert found["metallib_beside_libmlx"][0].startswith("macOS loads _internal/libmlx.dylib, beside which MLX finds")
    assert "loads @rpath/libjaccl.dylib" in found["libraries"][0]


def test_mlx_still_looks_where_the_rule_says(site: Mac) -> None:
    library = (site("26") / "mlx" / "lib" / "libmlx.dylib").read_bytes()
    for words in (b"_dladdr\0", b"\0Resources/mlx\0", b"\0Resources/default\0", b".metallib\0"):
        assert words in library


def test_the_command_prints_a_line_a_rule_and_what_to_do(application: Path) -> None:
    (application / "_internal" / "mlx.metallib").unlink()
    command = [sys.executable, ROOT / "build" / "verify.py", application, "--platform", "darwin"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1
    lines = ran.stdout.splitlines()
    assert len([line for line in lines if line.startswith(("ok    ", "FAIL  "))]) == len(verify.rules("darwin"))
    place = lines.index("FAIL  The metallib lies beside every path by which macOS may load libmlx.")
    assert "the spec must add the symlinks" in lines[place + 1]
