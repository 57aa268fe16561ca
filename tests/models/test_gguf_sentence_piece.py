"""SentencePiece tokenizers of GGUF files, beside SentencePiece itself with the same pieces and scores."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from mlx_lm.tokenizer_utils import SPMStreamingDetokenizer
from mlx_lm.tokenizer_utils import load as load_tokenizer
from sentencepiece import sentencepiece_model_pb2 as protocol
from tokenizers import Tokenizer

from mlxserve.models.gguf import GgufFile
from mlxserve.models.gguf_tokenizer import tokenizer_of, write_tokenizer
from mlxserve.text.tokenizer import Tokenizer as TokenizerOfTexts
from mlxserve.text.tokenizer import load_tokenizer as load_for_texts

from .gguf_writer import write_gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
SPECIAL = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), ("<turn>", CONTROL)]
WORDS = ["▁t", "▁th", "he", "▁the", "▁a", "in", "er", "an", "▁and", "ab", "abc", "bc", "▁▁x", "1", "12", "é", "世界"]
LETTERS = ["▁", *"abcdefhinrtx12", "é", "世", "界"]
PIECES = [
    *SPECIAL,
    *((f"<0x{byte:02X}>", BYTE) for byte in range(256)),
    *((run, USER_DEFINED) for run in ("  ", "   ", "\n\n", "<b>")),
    *((word, NORMAL) for word in dict.fromkeys([*WORDS, *LETTERS])),
]
TEXT = "the cat and  the bat\n\nin 12 <b>caf\u00e9</b> \u4e16\u754c \U0001f389 <0x41> end "


def _metadata(**more: Any) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece for piece, _ in PIECES],
        "tokenizer.ggml.scores": [float(-i) if kind == NORMAL else 0.0 for i, (_, kind) in enumerate(PIECES)],
        "tokenizer.ggml.token_type": [kind for _, kind in PIECES],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **more,
    }


def _file(folder: Path, **more: Any) -> GgufFile:
    return GgufFile.read(write_gguf(folder / "tokens.gguf", _metadata(**more), []))


def _sentence_piece(begins_with_space: bool) -> sentencepiece.SentencePieceProcessor:
    model = protocol.ModelProto()
    for i, (piece, kind) in enumerate(PIECES):
        written = piece.replace(" ", "▁") if kind == USER_DEFINED else piece
        model.pieces.add(piece=written, type=kind, score=float(-i) if kind == NORMAL else 0.0)
    model.trainer_spec.model_type = protocol.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = begins_with_space
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def test_texts_become_the_tokens_that_sentence_piece_makes_of_them(tmp_path: Path) -> None:
    ours = tokenizer_of(_file(tmp_path, **{"tokenizer.ggml.add_space_prefix": False}))
    theirs = _sentence_piece(begins_with_space=False)
    choice = random.Random(5)
    for length in [*range(1, 40), 3000]:
        text = "".join(
            choice.choices(["the", "and", "abc", "x", " ", "  ", "\n", "12", "é", "世界", "🎉", "<b>"], k=length)
        )
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text), text
        assert ours.decode(theirs.encode(text)) == text


def test_a_file_begins_texts_with_a_space_unless_it_says_otherwise(tmp_path: Path) -> None:
    ours, theirs = tokenizer_of(_file(tmp_path)), _sentence_piece(begins_with_space=True)
    for text in ("the cat", "世界x", "in 12"):
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text)
        assert ours.decode(ids) == text


@pytest.mark.parametrize("prefix", [True, False])
def test_tokens_are_the_same_after_saving_and_stream_as_they_are(tmp_path: Path, prefix: bool) -> None:
    file = _file(tmp_path, **{"tokenizer.ggml.add_space_prefix": prefix})
    write_tokenizer(file, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "eos_token_id": [2]}')
    wrapper = load_tokenizer(tmp_path)
    assert isinstance(wrapper.detokenizer, SPMStreamingDetokenizer)
    ids = wrapper.encode(TEXT)
    assert ids == Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(TEXT).ids
    assert ids[0] == 1
    assert _streamed(load_for_texts(tmp_path), ids[1:]) == wrapper.decode(ids[1:])
    assert prefix or wrapper.decode(ids[1:]) == TEXT


def _streamed(tokenizer: TokenizerOfTexts, ids: list[int]) -> str:
    detokenizer = tokenizer.detokenizer()
    pieces = []
    for token in ids:
        detokenizer.add_token(token)
        pieces.append(detokenizer.last_segment)
    detokenizer.finalize()
    return "".join([*pieces, detokenizer.last_segment])


def test_unknown_characters_are_bytes_and_written_out_bytes_are_text(tmp_path: Path) -> None:
    ours = tokenizer_of(_file(tmp_path, **{"tokenizer.ggml.add_space_prefix": False}))
    assert ours.encode("🎉", add_special_tokens=False).tokens == ["<0xF0>", "<0x9F>", "<0x8E>", "<0x89>"]
    assert "<0x41>" not in ours.encode("<0x41>").tokens
    assert ours.encode("a<turn>a").tokens == ["<s>", "a", "<turn>", "a"]
