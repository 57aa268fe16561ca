from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import KVCache

from mlxserve.pipeline.tree import arrays_in, mapped

ONE, TWO, THREE = (mx.array(number) for number in (1, 2, 3))


def named(tree: Any) -> dict[str, int]:
    return {path: array.item() for path, array in arrays_in(tree)}  # type: ignore[misc]


def test_arrays_are_named_by_their_paths() -> None:
    assert named(ONE) == {"": 1}
    assert named((ONE, None, {"h": [TWO], "state": SimpleNamespace(v=THREE)})) == {"0": 1, "2.h.0": 2, "2.state.v": 3}


def test_modules_and_caches_are_not_looked_into() -> None:
    cache = KVCache()
    cache.update_and_fetch(mx.zeros((1, 1, 1, 4)), mx.zeros((1, 1, 1, 4)))
    assert named([nn.Linear(2, 2), cache, ONE]) == {"2": 1}


def test_a_changed_copy_leaves_the_original_as_it_was() -> None:
    state = SimpleNamespace(v=ONE, name="v")
    tree = (state, [TWO], {"h": THREE})
    copy = mapped(tree, lambda path, leaf: path if isinstance(leaf, mx.array) else leaf)
    assert copy == (SimpleNamespace(v="0.v", name="v"), ["1.0"], {"h": "2.h"})
    assert named(tree) == {"0.v": 1, "1.0": 2, "2.h": 3}
