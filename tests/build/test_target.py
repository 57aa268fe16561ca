"""On which machines an application runs, told from its binaries; and which of MLX's wheels a build takes."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

import pytest
import wheels
from packaging.tags import mac_platforms
from target import Requirement, requirement

from tests.build.conftest import Mac


def test_the_wheels_for_macos_14_run_on_it_and_have_no_jaccl(site: Mac) -> None:
    assert requirement(site("14") / "mlx") == Requirement("darwin", "arm64", (14, 0), False)


def test_the_wheels_for_macos_26_need_26_2_and_have_jaccl(site: Mac) -> None:
    needs = requirement(site("26") / "mlx")
    assert needs == Requirement("darwin", "arm64", (26, 2), True)
    assert needs.oldest == "26.2"


def test_a_whole_application_needs_what_mlx_needs(collected: Mac) -> None:
    assert requirement(collected("14")) == Requirement("darwin", "arm64", (14, 0), False)


def test_on_linux_it_is_glibc_that_counts() -> None:
    spec = importlib.util.find_spec("mlx")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    needs = requirement(Path(spec.submodule_search_locations[0]))
    assert (needs.platform, needs.architecture, needs.has_jaccl) == ("linux", platform.machine(), False)
    assert (2, 17) < needs.minimum <= tuple(map(int, platform.libc_ver()[1].split(".")))


def test_a_folder_without_mlx_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither libmlx\.dylib nor libmlx\.so"):
        requirement(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "macos", "taken"),
    [
        (None, (14, 5), 14),
        (None, (15, 7), 14),
        (None, (26, 1), 14),
        (None, (26, 2), 26),
        (None, (27, 0), 26),
        (14, (26, 4), 14),
        (26, (26, 4), 26),
    ],
)
def test_a_build_takes_the_best_wheels_for_its_mac_or_those_asked_for(
    wanted: int | None, macos: tuple[int, int], taken: int
) -> None:
    assert wheels.target(wanted, macos) == taken


@pytest.mark.parametrize(
    ("wanted", "macos", "sentence"),
    [
        (26, (26, 1), r"made on macOS 26\.2 or later; this Mac has 26\.1"),
        (26, (15, 0), r"made on macOS 26\.2 or later; this Mac has 15\.0"),
        (None, (13, 6), r"MLX needs macOS 14 or later; this Mac has 13\.6"),
    ],
)
def test_a_build_that_would_not_run_on_its_own_mac_is_refused(
    wanted: int | None, macos: tuple[int, int], sentence: str
) -> None:
    with pytest.raises(SystemExit, match=sentence):
        wheels.target(wanted, macos)


@pytest.mark.parametrize("key", wheels.TAGS)
def test_pip_installs_the_wheels_on_every_mac_that_may_build_with_them(key: int) -> None:
    for macos in ((14, 0), (15, 0), (26, 2), (27, 0)):
        accepted = wheels.TAGS[key] in mac_platforms(macos, "arm64")
        assert accepted or macos < wheels.RUNS_ON[key]


@pytest.mark.parametrize("key", wheels.TAGS)
def test_the_wheels_need_the_macos_that_a_build_is_told(site: Mac, key: int) -> None:
    assert requirement(site(str(key)) / "mlx").minimum == wheels.RUNS_ON[key]
    files = sorted(site(str(key)).glob("mlx*.dist-info/WHEEL"))
    assert len(files) == 2
    assert all(f"-{wheels.TAGS[key]}" in file.read_text() for file in files)
