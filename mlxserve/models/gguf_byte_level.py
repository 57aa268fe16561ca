"""Byte-level BPE of a GGUF file, as llama.cpp and HF have it: bytes written as letters.

The patterns are those of llama.cpp's `llm_tokenizer_bpe` (src/llama-vocab.cpp), which follow each model's own.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mlxserve.errors import UserError
from mlxserve.models.gguf import GgufFile

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
SPLITS = {
    "default": DEFAULT,
    "gpt-2": (GPT2,),
    "gpt2": (GPT2,),
    "llama-bpe": (LLAMA3,),
    "llama3": (LLAMA3,),
    "llama-v3": (LLAMA3,),
    "qwen2": (QWEN2,),
    "deepseek-r1-qwen": (QWEN2,),
    "smollm": (r"\p{N}", GPT2),
}
LLAMA3_LIKE = ("llama-bpe", "llama3", "llama-v3")
"""These take a word that is a token whole, without merging, and begin with a BOS token where nothing else is said."""
COMPOSED = ("qwen2", "deepseek-r1-qwen")
"""These compose characters first (NFC)."""


def check_byte_level(file: GgufFile) -> None:
    """Raises UserError if words are split by an unknown rule."""
    if split_name(file) not in SPLITS:
        raise UserError(
            f"{file.path} splits words by the rule {split_name(file)!r}: "
            f"of GGUF files only {', '.join(SPLITS)} are supported; use the MLX version of the model."
        )


def byte_level(file: GgufFile) -> Tokenizer:
    """Without special tokens."""
    tokens: list[str] = file.metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in file.metadata.get("tokenizer.ggml.merges", [])]
    name = split_name(file)
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges, ignore_merges=name in LLAMA3_LIKE))
    if name in COMPOSED:
        tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS[name]]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split_name(file: GgufFile) -> str:
    """The rule by which words are split."""
    name: str = file.metadata.get("tokenizer.ggml.pre", "default")
    return name
