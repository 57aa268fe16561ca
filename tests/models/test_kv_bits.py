from __future__ import annotations

import mlx.core as mx
import pytest
from mlx_lm.tokenizer_utils import load as load_tokenizer

from mlxserve.config import Settings
from mlxserve.models.source import ModelSource
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.pipeline import OneRank, Work
from mlxserve.pipeline.plan import Open

TEXT = """<|im_start|>user
What is the capital of France, and how far is it from there to the sea?<|im_end|>
<|im_start|>assistant
The capital of France is Paris, and it is about 150 kilometers from there to the coast of the English Channel.<|im_end|>
"""


def logits_of(demo: ModelSource, kv_bits: int) -> mx.array:
    """After each token of the text, read in two chunks so that the second attends to what was stored."""
    loaded = load_model(demo.load("float32"), Settings(kv_bits=kv_bits))
    pipeline = OneRank(loaded.stage, loaded.batchable)
    tokens = load_tokenizer(demo.folder).encode(TEXT)
    half = len(tokens) // 2
    found = []
    for operations, part in (([Open(1, 1)], tokens[:half]), ([], tokens[half:])):
        logits = pipeline.tick(list(operations), Work(1, mx.array([part]), [], "all"))
        assert logits is not None
        mx.eval(logits)
        found.append(logits[0])
    return mx.concatenate(found)


@pytest.mark.parametrize(("kv_bits", "agreement"), [(8, 0.95), (4, 0.6)])
def test_quantized_caches_let_the_model_say_nearly_the_same(demo: ModelSource, kv_bits: int, agreement: float) -> None:
    whole, packed = logits_of(demo, 0), logits_of(demo, kv_bits)
    same = mx.mean(mx.argmax(whole, axis=-1) == mx.argmax(packed, axis=-1)).item()
    assert agreement <= same
    assert not mx.array_equal(whole, packed).item()
