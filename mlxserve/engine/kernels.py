"""MLX's kernels on Linux, compiled for this machine's processor.

Where `mx.compile` fuses operations for the CPU, MLX writes C++ and has `g++` make a library of it, for any processor of
the kind. On x86-64 each multiplication with an addition is then a call, and nothing is vectorized: an activation takes
16 ns an element, a fifth of a prompt's time, and 0.5 ns with what the processor can do. MLX finds `g++` by PATH, and
keeps what it made in TMPDIR; so an engine process gets a `g++` that adds flags, and a folder for what this makes.
The bits stay the same: nothing is contracted that was not, and nothing reordered.

Three quarters of the half second that each takes are those of MLX's header, which is precompiled where it is a file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx

from mlxserve.models.cache import cache_folder, publish
from mlxserve.versions import mlx_version

logger = logging.getLogger("mlxserve.engine")

_FLAGS = "-march=native -ffp-contract=off -fno-trapping-math --param=max-inline-insns-auto=1000"
"""The last two let loops be vectorized: no operation is kept for the exception it might raise, calls are inlined."""
_COMPILER = """\
#!/bin/sh
# Called by MLX in engine processes of mlxserve. A library appears whole, as others may be about to load it.
last= made=
for argument do
    [ "$last" = -o ] && made=$argument && argument=$made.$$
    last=$argument
    shift
    set -- "$@" "$argument"
done
{compiler} {flags} -I"${{0%/*}}/include" "$@" 2>/dev/null || {compiler} "$@" || exit
[ -z "$made" ] || mv "$made.$$" "$made"
"""
_FLAGS_OF_MLX = "-std=c++17 -O3 -Wall -fPIC"
"""Those that it calls `g++` with: where others are given, a precompiled header is not taken."""
_HEADER = "mlx/backend/cpu/compiled_preamble.h"
"""What each kernel begins with."""
_PROCESSOR = Path("/proc/cpuinfo")


def compile_for_this_processor() -> bool:
    """Have MLX do so in this process from now on; returns False where that cannot be, or would change bits."""
    compiler = shutil.which("g++")
    if not (compiler and sys.platform == "linux" and platform.machine() == "x86_64"):
        return False
    try:
        folder = _prepare(_COMPILER.format(compiler=shlex.quote(compiler), flags=_FLAGS))
        tempfile.gettempdir()  # Python's own temporary files stay where they were
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("kernels are compiled for any processor: %s", error)
        return False
    os.environ["TMPDIR"] = str(folder)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return True


def _prepare(script: str) -> Path:
    """The folder of this processor, in which there is a compiler that runs. Raises OSError or SubprocessError."""
    header = Path(mx.__file__).parent / "include" / _HEADER
    parts = (script, mlx_version(), _features(), str(header.exists()))
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    folder = publish(cache_folder() / "kernels" / digest[:12], lambda unfinished: _fill(unfinished, script, header))
    subprocess.run([folder / "g++", "--version"], check=True, capture_output=True)
    return folder


def _fill(folder: Path, script: str, header: Path) -> None:
    compiler = folder / "g++"
    compiler.write_text(script)
    compiler.chmod(0o755)
    if not header.exists():  # as in the frozen application, where MLX writes all of it into each kernel
        return
    precompiled = folder / "include" / f"{_HEADER}.gch"
    precompiled.parent.mkdir(parents=True)
    includes = f"-I{header.parents[_HEADER.count('/')]}"
    make: list[str | Path] = [compiler, *_FLAGS_OF_MLX.split(), includes, "-x", "c++-header", header, "-o", precompiled]
    try:
        subprocess.run(make, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        logger.info("MLX's header is read anew for each kernel: %s", error)


def _features() -> str:
    """What this processor can do: homes are shared by machines, and moved to others."""
    return next((line for line in _PROCESSOR.read_text().splitlines() if line.startswith("flags")), "")
