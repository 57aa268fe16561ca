"""Install MLX's wheels for the macOS that the binary is for: `python build/wheels.py 14`, or 26.

MLX has wheels for macOS 14, without JACCL, and for macOS 26, with it: two binaries. Either can be made on a Mac with
macOS 26.2 or later, the first on any from macOS 14 on. Without a number: the best for this Mac. On Linux: nothing.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

TAGS = {14: "macosx_14_0_arm64", 26: "macosx_26_0_arm64"}
RUNS_ON = {14: (14, 0), 26: (26, 2)}
"""The oldest macOS for each: macOS 26.0 has no RDMA, which the wheels tagged 26.0 need."""
PACKAGES = ("mlx", "mlx-metal")


def target(wanted: int | None, macos: tuple[int, int]) -> int:
    """The key of TAGS to build for on a Mac with `macos`. Raises SystemExit when MLX would not run here."""
    fitting = [key for key, oldest in RUNS_ON.items() if macos >= oldest]
    if not fitting:
        raise SystemExit(f"MLX needs macOS 14 or later; this Mac has {macos[0]}.{macos[1]}")
    if wanted is None:
        return max(fitting)
    if wanted not in fitting:
        oldest = ".".join(map(str, RUNS_ON[wanted]))
        raise SystemExit(f"that binary is made on macOS {oldest} or later; this Mac has {macos[0]}.{macos[1]}")
    return wanted


def installed_tag(package: str) -> str:
    """The platform in the tag of the wheel that `package` was installed from."""
    for line in (distribution(package).read_text("WHEEL") or "").splitlines():
        if line.startswith("Tag:"):
            return line.rpartition("-")[2]
    return ""


def download_command(version: str, tag: str, folder: Path) -> list[str]:
    """What downloads the wheels of both packages for `tag`, for this Python."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    which = ["--platform", tag, "--python-version", python, "--implementation", "cp"]
    names = [f"{package}=={version}" for package in PACKAGES]
    return [sys.executable, "-m", "pip", "download", *options, *which, *names]


def install(version: str, tag: str) -> None:
    """Replace the installed wheels by those for `tag`, of the same version."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(download_command(version, tag, Path(folder)), check=True)
        files = sorted(map(str, Path(folder).glob("*.whl")))
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--force-reinstall"]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *files], check=True)


def main() -> None:
    """Install what the command line says, unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("macos", type=int, choices=sorted(TAGS), nargs="?")
    wanted = parser.parse_args().macos
    if sys.platform != "darwin":
        return
    major, minor, *_ = (*map(int, platform.mac_ver()[0].split(".")), 0)
    tag = TAGS[target(wanted, (major, minor))]
    if {installed_tag(package) for package in PACKAGES} != {tag}:
        install(distribution("mlx").version, tag)
    print(f"MLX {distribution('mlx').version} for {tag}")


if __name__ == "__main__":
    main()
