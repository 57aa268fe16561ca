"""MLX as pip installs it on Macs, and applications made from it, for tests of the scripts in build/."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "build"))

CACHE = ROOT / "build" / "work" / "wheels"
"""Kept between runs: some 450 MB, downloaded as 125."""
COLLECT = Path(__file__).with_name("collect_program.py")
MLX = version("mlx")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

Mac = Callable[[str], Path]


def installed(platform: str, *packages: str) -> Path:
    """A folder with `packages`, each as name==version, as pip installs them on `platform`."""
    folder = CACHE / "-".join([*packages, platform]).replace("==", "-")
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}-{os.getpid()}")
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--no-compile"]
        which = ["--platform", platform, "--python-version", PYTHON, "--implementation", "cp"]
        command = [sys.executable, "-m", "pip", "install", *options, *which, "--target", str(unfinished), *packages]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode:
            shutil.rmtree(unfinished, ignore_errors=True)
            if os.environ.get("CI") == "true":
                pytest.fail(f"the wheels for {platform} cannot be had: {finished.stderr}")
            pytest.skip(f"the wheels for {platform} cannot be had without a network")
        with contextlib.suppress(OSError):  # another run was first
            unfinished.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def site() -> Mac:
    """The site-packages of a Mac with macOS "14" or "26", with MLX and nothing else."""
    return lambda macos: installed(f"macosx_{macos}_0_arm64", f"mlx=={MLX}", f"mlx-metal=={MLX}")


@pytest.fixture(scope="session")
def bootloader() -> Path:
    """What PyInstaller makes a program from on a Mac."""
    folder = installed("macosx_10_13_universal2", f"pyinstaller=={version('pyinstaller')}")
    return folder / "PyInstaller" / "bootloader" / "Darwin-64bit" / "run"


@pytest.fixture(scope="session")
def collect(bootloader: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Makes the folder that PyInstaller makes of an mlx package for Macs; takes words for collect_program.py."""
    folder = tmp_path_factory.mktemp("collected")
    numbers = itertools.count()

    def collect(package: Path, *words: str) -> Path:
        made = folder / str(next(numbers)) / "mlxserve"
        subprocess.run([sys.executable, COLLECT, package, bootloader, made, *words], check=True, capture_output=True)
        return made

    yield collect
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def collected(site: Mac, collect: Callable[..., Path]) -> Mac:
    """The folder that PyInstaller makes of MLX for macOS "14" or "26". Shared: change `application`'s instead."""
    return functools.cache(lambda macos: collect(site(macos) / "mlx"))


@pytest.fixture
def application(collected: Mac, tmp_path: Path) -> Iterator[Path]:
    """That for macOS 26, for one test to change: its files are others' too, so `own` comes first."""
    folder = tmp_path / "mlxserve"
    yield shutil.copytree(collected("26"), folder, symlinks=True, copy_function=os.link)
    shutil.rmtree(folder)


@pytest.fixture
def package(site: Mac, tmp_path: Path) -> Iterator[Path]:
    """The mlx package for macOS 26, for one test to change in the same way."""
    folder = tmp_path / "mlx"
    yield shutil.copytree(site("26") / "mlx", folder, copy_function=os.link)
    shutil.rmtree(folder)


def own(path: Path) -> Path:
    """Make the file one that no other folder shares; returns its path."""
    content, mode = path.read_bytes(), path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)
    return path
