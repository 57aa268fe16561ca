from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mlxserve.engine.kernels import compile_for_this_processor


@pytest.fixture(scope="package", autouse=True)
def own_kernels() -> Iterator[None]:
    """What MLX compiles here is compiled as in engine processes: in less time, and once for all runs."""
    before = dict(os.environ)
    compile_for_this_processor()
    yield
    os.environ.clear()
    os.environ.update(before)
