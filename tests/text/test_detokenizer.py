from __future__ import annotations

from time import process_time
from typing import Any

import pytest
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, NaiveStreamingDetokenizer, SPMStreamingDetokenizer

from mlxserve.text.detokenizer import Detokenizer

TEXT = "The quick brown fox — 日本 🎉 — jumps,\nand  jumps again. "


class Pieces:
    """A SentencePiece vocabulary, as mlx-lm's detokenizer asks for it."""

    words = ("\u2581the", "\u2581fox", "es", "<0xE6>", "<0x97>", "<0xA5>", ".", "\u2581")

    def __len__(self) -> int:
        return len(self.words)

    def convert_ids_to_tokens(self, tokens: list[int]) -> list[str]:
        return [self.words[token] for token in tokens]


@pytest.mark.parametrize("kind", [BPEStreamingDetokenizer, NaiveStreamingDetokenizer])
def test_a_long_answer_is_its_tokens_decoded(plain: Any, kind: Any) -> None:
    tokens = plain.encode(TEXT * 60)
    assert "".join(_segments(kind(plain), tokens)) == plain.decode(tokens)


def test_a_long_answer_loses_its_first_space_alone() -> None:
    segments = _segments(SPMStreamingDetokenizer(Pieces()), [0, 1, 2, 3, 4, 5, 6, 7] * 300)
    assert "".join(segments) == (" the foxes日. " * 300)[1:]


def test_the_last_tokens_of_a_long_answer_take_no_longer_than_its_first(plain: Any) -> None:
    words = plain.encode(" fox") * 20_000
    detokenizer = Detokenizer(BPEStreamingDetokenizer(plain))
    seconds = []
    for _ in range(5):
        started = process_time()
        for token in words:
            detokenizer.add_token(token)
            assert detokenizer.last_segment
        seconds.append(process_time() - started)
    assert seconds[-1] < 3 * seconds[0], seconds


def _segments(streaming: Any, tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(streaming)
    segments = []
    for token in tokens:
        detokenizer.add_token(token)
        segments.append(detokenizer.last_segment)
    detokenizer.finalize()
    return [*segments, detokenizer.last_segment]
