"""What an engine process finds on its machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxserve.config import Place
from mlxserve.engine.environment import engine_environment

COMPILED = """
import mlx.core as mx
mx.set_default_device(mx.cpu)
x = mx.arange(32).reshape(4, 8) / 7
gate = lambda x: mx.sigmoid(x) * x + 1
assert mx.array_equal(mx.compile(gate)(x), gate(x))
"""


def test_mlx_computes_the_same_where_no_compiler_is_installed(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}  # MLX keeps what it compiled in TMPDIR
    done = subprocess.run([sys.executable, "-c", COMPILED], env=nothing, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_huge_pages_are_asked_for_unless_the_user_chose() -> None:
    plain = engine_environment({}, Place())["GLIBC_TUNABLES"]
    assert "glibc.malloc.hugetlb=1" in plain.split(":")
    chosen = engine_environment({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0:glibc.malloc.check=1"}, Place())
    assert chosen["GLIBC_TUNABLES"].startswith("glibc.malloc.hugetlb=0:glibc.malloc.check=1:")
    assert "hugetlb=1" not in chosen["GLIBC_TUNABLES"]
