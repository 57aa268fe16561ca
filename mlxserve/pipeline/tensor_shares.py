"""Tensor parallel: each rank has a share of every layer, as mlx-lm's own `shard` cuts them.

Outside of the layers nothing is cut: every rank embeds, and rank 0 alone computes the head.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxserve.errors import UserError
from mlxserve.pipeline.model_trace import RAISED_BY_MODELS, model_type_of
from mlxserve.pipeline.slots import find_layers

Counts = dict[tuple[str, str], int]
"""Whole numbers that modules have, by the module's path and the attribute's name: heads, mostly."""


def shard_model(model: nn.Module, group: mx.distributed.Group) -> None:
    """Leave of every layer of `model`, which are not in slots yet, this rank's share; no weight is read.

    Raises UserError, naming the model type and the numbers, where mlx-lm cannot cut this model for so many ranks.
    """
    ranks = group.size()
    shard = getattr(model, "shard", None)
    if shard is None:
        raise _refusal(model, ranks, "mlx-lm cannot cut the layers of this type")
    if (heads := _attention_heads(model)) % ranks:
        raise _refusal(model, ranks, f"its {heads} attention heads cannot be divided by {ranks}")
    paths = tuple(f"{path}." for path, _ in find_layers(model))
    outside = [module for name, module in model.named_modules() if not name.startswith(paths)]
    before = [(module, dict(module), dict(vars(module))) for module in outside]
    counts = _counts(model)
    try:
        shard(group)
    except (*RAISED_BY_MODELS, ArithmeticError, AssertionError) as error:
        raise _refusal(model, ranks, " ".join(str(error).split())) from error
    for module, content, attributes in before:
        dict.update(module, content)
        vars(module).update(attributes)
    if undivided := _undivided(counts, _counts(model), ranks):
        raise _refusal(model, ranks, undivided)


def embeddings(model: nn.Module) -> list[tuple[str, mx.array]]:
    """The weights of its tables of embeddings that are in no layer, with their names; its layers are in slots."""
    tables = [
        (path, one) for path, one in model.named_modules() if isinstance(one, nn.Embedding | nn.QuantizedEmbedding)
    ]
    return [(f"{path}.{name}", array) for path, table in tables for name, array in tree_flatten(table.parameters())]


def _undivided(before: Counts, after: Counts, ranks: int) -> str:
    """What `shard` has divided although it cannot be; it may instead give several ranks the same head."""
    for key, count in before.items():
        share = after.get(key, count)
        same_head = share == 1 and count > 0 and ranks % count == 0
        if share not in (count, count / ranks) and not same_head:
            return f"its {count} {key[1]} cannot be divided by {ranks}"
    return ""


def _counts(model: nn.Module) -> Counts:
    return {
        (path, name): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if type(value) is int
    }


def _attention_heads(model: nn.Module) -> int:
    """Of the config; 0 where it does not say."""
    configs = (getattr(module, "args", None) for module in model.modules())
    counts = (getattr(config, "num_attention_heads", None) for config in configs)
    return next((count for count in counts if isinstance(count, int)), 0)


def _refusal(model: nn.Module, ranks: int, reason: str) -> UserError:
    return UserError(
        f"model type {model_type_of(model)!r} cannot be run tensor parallel on {ranks} ranks: {reason}. "
        "Start all ranks with --parallel pipeline, or another number of them."
    )
