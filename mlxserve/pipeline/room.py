"""Whether a rank's layers fit into its memory, asked before they are read: a Mac that runs out of it may panic."""

from __future__ import annotations

import math

from mlxserve.errors import UserError

_USED = 0.95
"""Of the memory that is usable, the share that weights may take: a little is needed for anything to be computed."""
_BITS = 4.5
"""Of a weight that is quantized to 4 bits, with its share of scales and biases."""


def require_room(rank: int, layers: int, own: int, whole: int, bits: float, usable: int) -> None:
    """Raise UserError where `own` bytes, those of `layers` layers and of what else rank `rank` has, do not fit.

    `whole`: bytes of the model; `bits`: of one of its weights, 0 where they are quantized; `usable`: bytes there are.
    """
    most = int(_USED * usable)
    if own <= most:
        return
    fitting = layers * most // own
    ways = [f"at most {fitting} of its layers fit (--split)" if fitting else "not even one of its layers fits"]
    ways.append(f"machines like this must be at least {math.ceil(whole / max(1, most))}")
    if bits:
        quantized = own * _BITS / bits
        ways.append(f"quantized to 4 bits they would take about {_gb(quantized)}")
    raise UserError(
        f"rank {rank}: the weights of its {layers} layer{'' if layers == 1 else 's'} take {_gb(own)}, but "
        f"{_gb(most)} of memory can be used for them, so {_gb(own - most)} are missing: {'; '.join(ways)}."
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
