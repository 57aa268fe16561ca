"""What arrays are computed from, read off MLX's graph of them; nothing is computed."""

from __future__ import annotations

import io
import re
from collections import defaultdict

import mlx.core as mx

_EDGE = re.compile(r'^("?)([^"\s]+)\1 -> "?([^"\s]+?)"?$', re.MULTILINE)


def origins_of(arrays: dict[str, mx.array], marks: dict[str, mx.array]) -> dict[str, set[str]]:
    """For each of `arrays`, the names of those `marks` from which it is computed, the nearest ones.

    Names are all different, and none is one of MLX's own, which are upper-case.
    """
    apart = {name: mx.stop_gradient(array) for name, array in arrays.items()}  # an array may have two names
    text = io.StringIO()
    mx.export_to_dot(text, **marks, **apart)
    inputs = defaultdict(list)
    for _, source, target in _EDGE.findall(text.getvalue()):
        inputs[target].append(source)
    return {name: _reached(name, inputs, marks) for name in arrays}


def _reached(name: str, inputs: dict[str, list[str]], marks: dict[str, mx.array]) -> set[str]:
    found, seen, waiting = set(), {name}, [name]
    while waiting:
        for source in inputs.get(waiting.pop(), []):
            if source in marks:
                found.add(source)
            elif source not in seen:
                seen.add(source)
                waiting.append(source)
    return found
