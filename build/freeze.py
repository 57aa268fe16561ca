"""Freeze mlxserve: build/work/app/mlxserve/, a folder whose program runs without Python.

What is in it depends on this tree and on the environment that this runs in, on nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pack import BUILD_ID, content_id

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "work"
APPLICATION = WORK / "app" / "mlxserve"
SPEC = ROOT / "spec" / "mlxserve.spec"
REPRODUCIBLE = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"}


def main() -> int:
    """Freeze; 0 when the folder is there. What was there before stays until then."""
    scratch = WORK / "freeze"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    folders = ["--distpath", str(scratch / "dist"), "--workpath", str(scratch)]
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", *folders, str(SPEC)]
    code = subprocess.run(command, env=os.environ | REPRODUCIBLE, cwd=ROOT).returncode
    if code:
        return code
    folder = scratch / "dist" / APPLICATION.name
    (folder / BUILD_ID).write_text(content_id(folder) + "\n")
    shutil.rmtree(APPLICATION, ignore_errors=True)
    APPLICATION.parent.mkdir(exist_ok=True)
    folder.rename(APPLICATION)
    print(f"{APPLICATION}: {_size(APPLICATION) / 1e6:.0f} MB")
    return 0


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
