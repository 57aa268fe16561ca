"""The arrays in what a layer is given or returns: lists, tuples, dicts and plain objects, one in another.

Modules, and caches, which have a state of their own, are not looked into. A path names an array: "0.1", "h", "" alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mlx.core as mx


def arrays_in(tree: Any, path: str = "") -> Iterator[tuple[str, mx.array]]:
    """Every array in `tree`, with its path."""
    if isinstance(tree, mx.array):
        yield path, tree
        return
    for name, child in _children(tree):
        yield from arrays_in(child, _below(path, name))


def mapped(tree: Any, change: Callable[[str, Any], Any], path: str = "") -> Any:
    """A copy of `tree` with `change(path, leaf)` for each leaf, be it an array or not."""
    if isinstance(tree, list | tuple):
        changed = [mapped(child, change, _below(path, name)) for name, child in enumerate(tree)]
        return changed if isinstance(tree, list) else tuple(changed)
    if not (children := list(_children(tree))):
        return change(path, tree)
    changed_children = {name: mapped(child, change, _below(path, name)) for name, child in children}
    if isinstance(tree, dict):
        return changed_children
    twin = copy.copy(tree)
    vars(twin).update(changed_children)
    return twin


def _children(tree: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(tree, list | tuple):
        return enumerate(tree)
    if isinstance(tree, mx.array) or callable(tree) or hasattr(type(tree), "state"):
        return ()
    if isinstance(tree, dict):
        return tree.items()
    return vars(tree).items() if hasattr(tree, "__dict__") else ()


def _below(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)
