"""mlx-lm for an engine, which computes and leaves texts to the node, without tokenizers.

`import mlx_lm` loads a generator, a converter and all of transformers: more than half of what an engine needs to load
otherwise. An engine uses none of it, and the clients of a lost rank wait for its engine to start.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_TOKENIZERS = "mlx_lm.tokenizer_utils"


class _Left(ModuleType):
    """A module that is not loaded: whatever others import from it is a class by that name, of no use but in hints."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__module__": self.__name__})


def leave_out_tokenizers() -> None:
    """From now on `mlx_lm` is a package without content of its own, and without tokenizers, in this process.

    Its modules, such as `mlx_lm.utils` and `mlx_lm.models`, are what they always are. Nothing happens where it was
    imported before.
    """
    spec = find_spec("mlx_lm")
    if spec is None or "mlx_lm" in sys.modules:
        return
    sys.modules["mlx_lm"] = module_from_spec(spec)
    sys.modules[_TOKENIZERS] = _Left(_TOKENIZERS)
