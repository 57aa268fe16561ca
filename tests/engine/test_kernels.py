"""Kernels that MLX compiles: made for this processor, with the bits of those made for any."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

PROGRAM = """
import hashlib, os, tempfile
temporary = tempfile.gettempdir()
if {own}:
    from mlxserve.engine.kernels import compile_for_this_processor
    compile_for_this_processor()
import mlx.core as mx, mlx.nn as nn
from mlx_lm.models.activations import swiglu
mx.set_default_device(mx.cpu)
edges = [float(x) for x in "inf -inf nan 0 -0 1e-40 -1e-40 3e38 88 88.1 -88 -88.1 104 -104".split()]
x = mx.array(edges + [0.001 * n - 120 for n in range(240_000)])
for kernel, kind in {kernels}:
    found = kernel(x.astype(kind)).view(mx.uint8)
    print(hashlib.sha256(bytes(memoryview(found))).hexdigest())
assert tempfile.gettempdir() == temporary
"""
ONE = "[(nn.silu, mx.float32)]"
SOME = (
    "[(lambda x: swiglu(x, x[::-1] * 1), mx.float32), (nn.gelu, mx.float32), (nn.gelu_approx, mx.float32),"
    "(lambda x: mx.compile(lambda one, other: mx.exp(one - other))(x, x[::-1] * 0.5), mx.float32),"
    "(nn.silu, mx.float16), (nn.gelu_approx, mx.bfloat16)]"
)

linux_only = pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="not Linux on x86-64")


def started(own: bool, folder: Path, kernels: str, **variables: str) -> subprocess.Popen[str]:
    """A process that says digests of what kernels compute, `own` ones or MLX's; both are made in `folder`."""
    (folder / "temporary").mkdir(exist_ok=True)
    places = {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / "temporary")}
    program = [sys.executable, "-c", PROGRAM.format(own=own, kernels=kernels)]
    environment = dict(os.environ) | places | variables
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[str]:
    """What it said, which must be all of its digests."""
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    return output.split()


def computed(own: bool, folder: Path, kernels: str = ONE, **variables: str) -> list[str]:
    return said(started(own, folder, kernels, **variables))


def libraries(folder: Path) -> list[Path]:
    return list(folder.rglob("*.so"))


def precompiled(folder: Path) -> bool:
    """Whether kernels are made in `folder` with a precompiled header."""
    compiler, kernel = next(folder.rglob("kernels/*/g++")), next(folder.rglob("kernels/*/mlx/**/*.cpp"))
    read = folder / "read.ii"
    flags = ["-std=c++17", "-O3", "-Wall", "-fPIC", "-shared", f"-I{Path(mx.__file__).parent / 'include'}"]
    subprocess.run([compiler, *flags, "-E", "-fpch-preprocess", kernel, "-o", read], check=True)
    return "#pragma GCC pch_preprocess" in read.read_text()


@linux_only
def test_own_kernels_compute_the_same_bits(tmp_path: Path) -> None:
    assert computed(True, tmp_path, SOME) == computed(False, tmp_path, SOME)
    made = libraries(tmp_path / "cache/mlxserve/kernels")
    assert len(made) == len(libraries(tmp_path / "temporary")) > 0
    assert not list(tmp_path.rglob("*.so.*"))  # nothing unfinished is left
    assert precompiled(tmp_path)
    if "fma" in Path("/proc/cpuinfo").read_text().split():
        code = subprocess.run(["objdump", "-d", *made], capture_output=True, text=True, check=True).stdout
        assert "vfmadd" in code


@linux_only
def test_where_no_folder_can_be_written_mlx_makes_its_own(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder is wanted")
    assert computed(True, tmp_path)
    assert libraries(tmp_path / "temporary")


@linux_only
def test_a_compiler_that_knows_none_of_the_flags_is_called_without(tmp_path: Path) -> None:
    strict = tmp_path / "bin/g++"
    strict.parent.mkdir()
    strict.write_text('#!/bin/sh\ncase "$*" in *-march*--version*) ;; *-march*) exit 1 ;; esac\nexec "$REAL" "$@"\n')
    strict.chmod(0o755)
    real = subprocess.run(["which", "g++"], capture_output=True, text=True, check=True).stdout.strip()
    computed(True, tmp_path, PATH=f"{strict.parent}:{os.environ['PATH']}", REAL=real)
    assert libraries(tmp_path / "cache")


@linux_only
def test_engines_that_start_together_share_what_they_make(tmp_path: Path) -> None:
    engines = [started(True, tmp_path, ONE) for _ in range(3)]
    first, *others = map(said, engines)
    assert len(first) == 1
    assert others == [first, first]
    assert len(libraries(tmp_path)) == 1
