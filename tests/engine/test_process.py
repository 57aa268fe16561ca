from __future__ import annotations

import pytest

from mlxserve.bundle import build_id
from mlxserve.engine.process import check_build
from mlxserve.errors import BrokenBuild


def test_an_engine_of_another_build_than_its_nodes_is_refused_with_both_named() -> None:
    check_build(build_id())
    with pytest.raises(BrokenBuild, match=rf"build 0123 by {build_id()}"):
        check_build("0123")
