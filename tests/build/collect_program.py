"""PyInstaller's own analysis, rewriting and collecting of MLX's libraries, told that it runs on a Mac.

`python collect_program.py PACKAGE PROGRAM FOLDER [without-layout]`: PACKAGE is the mlx package for macOS, PROGRAM
PyInstaller's bootloader for it. Makes FOLDER/mlxserve and FOLDER/_internal as the spec does, or, without the layout,
as PyInstaller does by itself when it is given the metallib.
"""

import platform
import site
import subprocess
import sys
import sysconfig
import urllib.request  # noqa: F401  (on a Mac it would import a module that Linux has not)
from pathlib import Path

sysconfig.get_config_vars()  # while it is still told which machine this really is
sys.platform = "darwin"
platform.system = lambda: "Darwin"
platform.machine = lambda: "arm64"
platform.mac_ver = lambda *_: ("26.2", ("", "", ""), "arm64")

from PyInstaller import config  # noqa: E402
from PyInstaller.building.api import COLLECT, EXE  # noqa: E402
from PyInstaller.depend import bindepend  # noqa: E402
from PyInstaller.utils import osx  # noqa: E402

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "spec"), str(Path(__file__).parent)]

import mac_tools  # noqa: E402
from libraries import with_layout  # noqa: E402
from mlx_layout import layout  # noqa: E402


def main(package: Path, bootloader: Path, folder: Path, is_laid_out: bool) -> None:
    """Make the folder."""
    work = folder.parent / "work"
    work.mkdir(parents=True)
    config.CONF |= {"workpath": str(work), "cachedir": str(work), "distpath": str(folder.parent), "specpath": str(work)}
    config.CONF |= {"noconfirm": True, "upx_available": False, "spec": ""}
    mac_tools.PIPE, mac_tools.STDOUT = subprocess.PIPE, subprocess.STDOUT
    osx.subprocess = mac_tools
    site.getsitepackages = lambda: [str(package.parent)]
    program = thin_program(bootloader, work)
    sys.executable = program.name  # its rpaths are those of Python to PyInstaller
    (core,) = package.glob("core.*.so")
    found = bindepend.binary_dependency_analysis([(f"mlx/{core.name}", str(core), "EXTENSION")], None, [])
    found.append(("mlx/lib/mlx.metallib", str(package / "lib" / "mlx.metallib"), "DATA"))
    COLLECT(program, with_layout(found, layout(package, "darwin")) if is_laid_out else found, name=str(folder))


def thin_program(bootloader: Path, work: Path) -> EXE:
    """The bootloader for arm64 as an EXE of PyInstaller, without an archive of Python modules."""
    program = EXE.__new__(EXE)
    program.name = str(work / "mlxserve")
    osx.convert_binary_to_thin_arch(str(bootloader), "arm64", program.name)
    osx.sign_binary(program.name)
    program.toc = []
    program.dependencies = []
    program.append_pkg = program.console = True
    program.contents_directory = "_internal"
    program.strip = program.upx = False
    program.target_arch = "arm64"
    program.codesign_identity = program.entitlements_file = program.versrsrc = program.manifest = None
    return program


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(Path(arguments[0]), Path(arguments[1]), Path(arguments[2]), "without-layout" not in arguments)
