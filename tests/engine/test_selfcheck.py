"""Whether MLX works: told before anything else is, with the files that it looks for."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
import pytest

from mlxserve.engine import selfcheck
from mlxserve.errors import BrokenBuild


def test_mlx_that_works_passes_within_5_ms() -> None:
    mx.eval(mx.zeros(1))
    start = time.perf_counter()
    selfcheck.check_device()
    assert time.perf_counter() - start < 0.005


def test_a_mac_looks_for_the_library_and_for_the_metallib_beside_each_of_its_names() -> None:
    places = [Path("/app/mlx/lib"), Path("/app")]
    assert [str(path) for path in selfcheck.looked_for(places, "darwin")] == [
        "/app/mlx/lib/libmlx.dylib",
        "/app/mlx/lib/mlx.metallib",
        "/app/mlx/lib/Resources/mlx.metallib",
        "/app/mlx/lib/Resources/default.metallib",
        "/app/libmlx.dylib",
        "/app/mlx.metallib",
        "/app/Resources/mlx.metallib",
        "/app/Resources/default.metallib",
    ]


def test_the_sentence_has_what_is_wrong_the_files_and_what_to_do() -> None:
    sentence = selfcheck.complaint("RuntimeError: Failed to load the default metallib.\nlibrary not found")
    assert "(RuntimeError: Failed to load the default metallib. library not found)" in sentence
    assert re.search(r"/mlx/lib/libmlx\.\w+ \(\d{7,} bytes\)", sentence)
    assert sentence.endswith("Install mlx anew: `pip install --force-reinstall mlx`, on Linux `mlx[cpu]`.")
    assert "\n" not in sentence


def test_a_frozen_application_is_to_be_copied_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path / "_internal"), raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "mlxserve"))
    monkeypatch.setattr(sys, "platform", "darwin")
    sentence = selfcheck.complaint("it fails")
    assert f"{tmp_path}/_internal/libmlx.dylib (missing); {tmp_path}/_internal/mlx.metallib (missing)" in sentence
    assert sentence.endswith(f"Remove {tmp_path} and copy mlxserve here again, the file made for this macOS.")


def test_a_device_that_computes_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "array", lambda value: mx.zeros(()))
    with pytest.raises(BrokenBuild, match=r"\(1 \+ 1 is 0\.0 on Device\(cpu, 0\)\)"):
        selfcheck.check_device()


def test_the_engine_starts_without_loading_mlx_before_it_is_checked() -> None:
    program = "import sys, mlxserve.engine.process, mlxserve.node; print('mlx.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
