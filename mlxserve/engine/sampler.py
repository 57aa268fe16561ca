"""Drawing tokens: the noise depends on a sequence's seed and the token's position alone.

So a request with a seed gets the same text alone or among others, on any number of ranks, interrupted or not.
mlx-lm's samplers take one setting for a whole batch, draw from one global state, and compile anew for every value of
a setting, so the filters here are written for a setting a row.
"""

from __future__ import annotations

import mlx.core as mx

from mlxserve.engine.messages import Sampling

_MASK = (1 << 64) - 1


def sample(logits: mx.array, settings: list[Sampling], positions: list[int]) -> mx.array:
    """Draw one token a row from `logits` [rows, vocabulary]; `positions` are those of the tokens to be drawn.

    Returns [rows] int32, not evaluated.
    """
    return mx.argmax(scores(logits, settings, positions), axis=-1).astype(mx.int32)


def scores(logits: mx.array, settings: list[Sampling], positions: list[int]) -> mx.array:
    """What the drawn token has the most of, [rows, vocabulary]: greedy rows' logits, or filtered logits plus noise.

    The Gumbel-max trick: the arg max of logits plus noise is distributed as their softmax. top_p, min_p and top_k look
    at probabilities before the temperature, as mlx-lm and llama.cpp do.
    """
    warm = [row for row, setting in enumerate(settings) if setting.temperature > 0]
    if not warm:
        return logits
    chosen = [settings[row] for row in warm]
    all_warm = len(warm) == len(settings)
    filtered = _filtered((logits if all_warm else logits[mx.array(warm)]).astype(mx.float32), chosen)
    noisy = filtered / _column(chosen, "temperature") + _noise(chosen, [positions[row] for row in warm], logits)
    if all_warm:
        return noisy
    result = logits.astype(mx.float32)
    result[mx.array(warm)] = noisy
    return result


def _noise(settings: list[Sampling], positions: list[int], logits: mx.array) -> mx.array:
    keys = [_key(setting.seed, position) for setting, position in zip(settings, positions, strict=True)]
    return mx.vmap(lambda key: mx.random.gumbel((logits.shape[-1],), key=key))(mx.array(keys, mx.uint32))


def _filtered(logits: mx.array, settings: list[Sampling]) -> mx.array:
    """`logits` with minus infinity where a row's top_k, top_p or min_p excludes the token."""
    if any(setting.min_p > 0 for setting in settings):
        least = mx.max(logits, axis=-1, keepdims=True) + mx.log(_column(settings, "min_p"))
        logits = mx.where(logits < least, -mx.inf, logits)
    if any(setting.top_k > 0 or setting.top_p < 1 for setting in settings):
        logits = mx.where(logits < _threshold(logits, settings), -mx.inf, logits)
    return logits


def _threshold(logits: mx.array, settings: list[Sampling]) -> mx.array:
    """The least logit that each row's top_k and top_p let through, [rows, 1]; the most likely token always passes."""
    width = logits.shape[-1]
    descending = -mx.sort(-logits, axis=-1)
    probabilities = mx.softmax(descending, axis=-1)
    mass_above = mx.cumsum(probabilities, axis=-1, inclusive=False)
    kept = mx.sum(mass_above < _column(settings, "top_p"), axis=-1, keepdims=True)
    top_k = mx.array([[setting.top_k if setting.top_k > 0 else width] for setting in settings])
    last = mx.clip(mx.minimum(kept, top_k), 1, width) - 1
    return mx.take_along_axis(descending, last, axis=-1)


def _column(settings: list[Sampling], name: str) -> mx.array:
    return mx.array([[getattr(setting, name)] for setting in settings], mx.float32)


def _key(seed: int, position: int) -> list[int]:
    """A key for MLX's generator: splitmix64 (Steele, Lea and Flood, 2014) of seed and position."""
    value = (seed + (position + 1) * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    value ^= value >> 31
    return [value >> 32, value & 0xFFFFFFFF]
