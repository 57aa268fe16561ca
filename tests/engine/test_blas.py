"""Which OpenBLAS an engine process computes with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxserve.engine import blas

LOAD = """
import ctypes, sys
from mlxserve.engine import blas
sys.frozen, sys.executable = True, sys.argv[1]
blas.load_own()
ctypes.CDLL(None).cblas_sgemm  # found by all that is loaded later
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MLX has a fast BLAS of its own")
needs_openblas = pytest.mark.skipif(blas.to_preload() is None, reason="OpenBLAS is not installed")


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process as the frozen application in a folder that has no OpenBLAS yet."""
    (tmp_path / "_internal").mkdir()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "mlxserve"))
    return tmp_path


@needs_openblas
def test_the_application_loads_its_own_before_mlx_and_preloads_none(application: Path) -> None:
    system = blas.to_preload()
    assert system
    (application / "_internal" / blas.FILE).symlink_to(system)
    assert blas.to_preload() is None
    loading = [sys.orig_argv[0], "-c", LOAD, str(application / "mlxserve")]
    done = subprocess.run(loading, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@needs_openblas
def test_an_application_without_its_own_preloads_the_one_of_the_system(application: Path) -> None:
    assert blas.to_preload()
    blas.load_own()
