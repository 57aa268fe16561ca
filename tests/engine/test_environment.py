"""What an engine process finds on its machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
