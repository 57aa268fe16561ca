"""Filling gaps, as models that were trained to want to be asked; and texts of SentencePiece's tokenizers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as Fast
from tokenizers.processors import TemplateProcessing

from mlxserve.text.infill import Infill
from mlxserve.text.tokenizer import Tokenizer, load_tokenizer


class Vocabulary:
    """A tokenizer of which only the vocabulary matters."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._tokens)}


@pytest.mark.parametrize(
    ("tokens", "prompt"),
    [
        (["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"], [0, 10, 11, 1, 20, 2]),
        (["<fim_prefix>", "<fim_middle>", "<fim_suffix>"], [0, 10, 11, 2, 20, 1]),
        (["<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>"], [0, 10, 11, 1, 20, 2]),
        (["[PREFIX]", "[SUFFIX]", "[MIDDLE]"], [1, 20, 0, 10, 11]),
    ],
)
def test_each_family_of_models_is_asked_in_its_own_way(tokens: list[str], prompt: list[int]) -> None:
    infill = Infill.of(Vocabulary(*tokens))
    assert infill
    assert infill.prompt([10, 11], [20]) == prompt


def test_a_model_without_the_tokens_is_not_asked() -> None:
    assert Infill.of(Vocabulary("<|im_start|>", "<fim_prefix>", "<fim_suffix>")) is None


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer like CodeLlama's."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    vocabulary = {token: number for number, token in enumerate(["<unk>", "<s>", "</s>"])}
    letters = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", *(chr(code) for code in range(33, 127))]
    merges = [("▁", "P"), ("a", "r"), ("▁P", "ar"), ("i", "s"), ("▁Par", "is")]
    for token in [*letters, *("".join(merge) for merge in merges)]:
        vocabulary[token] = len(vocabulary)
    fast = Fast(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special: list[Any] = ["<s>", "</s>", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]
    fast.add_special_tokens([AddedToken(token, special=True) for token in special])
    fast.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2}))
    return load_tokenizer(folder)


def spelled(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return b"".join(map(tokenizer.bytes_of, tokens)).decode()


def test_what_follows_a_gap_gets_no_space_before_it(llama: Tokenizer) -> None:
    for text in ("x", "  x", "\n  return", "</s>x", "日本", ""):
        assert spelled(llama, llama.encode_within(text)) == text
    assert spelled(llama, llama.encode_plain("x")) == " x"
    assert llama.infill
    assert llama.infill.ends == [" <EOT>"]


def test_an_answer_that_continues_a_text_keeps_its_space(llama: Tokenizer) -> None:
    tokens = llama.encode("Paris is 🎉", special=False)
    told = {}
    for continues in (False, True):
        detokenizer = llama.detokenizer(continues)
        text = ""
        for token in tokens:
            detokenizer.add_token(token)
            text += detokenizer.last_segment
        told[continues] = text
    assert told == {False: "Paris is 🎉", True: " Paris is 🎉"}
