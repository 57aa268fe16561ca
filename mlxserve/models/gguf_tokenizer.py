"""tokenizer.json and tokenizer_config.json from a GGUF file's metadata: byte-level BPE, as llama.cpp and HF have it.

The patterns are those of llama.cpp's `llm_tokenizer_bpe` (src/llama-vocab.cpp), which follow each model's own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from mlxserve.errors import UserError
from mlxserve.models.gguf import GgufFile

CONTROL, USER_DEFINED = 3, 4
"""Of tokenizer.ggml.token_type."""

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


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Raises UserError if the tokenizer is of a kind that is not supported."""
    check_tokenizer(file)
    tokenizer_of(file).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_config(file), indent=2), encoding="utf-8")


def check_tokenizer(file: GgufFile) -> None:
    model = file.metadata.get("tokenizer.ggml.model", "none")
    if model != "gpt2":
        kind = {"llama": "SentencePiece ('llama')", "none": "no tokenizer"}.get(model, repr(model))
        raise UserError(
            f"{file.path} has {kind} for its tokenizer: of GGUF files only byte-level BPE ('gpt2') is supported; "
            "use the MLX version of the model."
        )
    if _split_name(file) not in SPLITS:
        raise UserError(
            f"{file.path} splits words by the rule {_split_name(file)!r}: "
            f"of GGUF files only {', '.join(SPLITS)} are supported; use the MLX version of the model."
        )


def tokenizer_of(file: GgufFile) -> Tokenizer:
    """The tokenizer, as the library has it."""
    tokens: list[str] = file.metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in file.metadata.get("tokenizer.ggml.merges", [])]
    name = _split_name(file)
    try:
        model = BPE({token: i for i, token in enumerate(tokens)}, merges, ignore_merges=name in LLAMA3_LIKE)
    except Exception as error:  # the library has no type of its own for it
        raise UserError(f"{file.path} has a tokenizer that contradicts itself ({error}): get it again.") from error
    tokenizer = Tokenizer(model)
    if name in COMPOSED:
        tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS[name]]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _add_special_tokens(tokenizer, file, tokens)
    tokenizer.post_processor = _post_processor(file, tokens)
    return tokenizer


def _add_special_tokens(tokenizer: Tokenizer, file: GgufFile, tokens: list[str]) -> None:
    kinds: list[int] = file.metadata.get("tokenizer.ggml.token_type", [])
    for token, kind in zip(tokens, kinds, strict=False):
        if kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])


def _post_processor(file: GgufFile, tokens: list[str]) -> Any:
    plain = processors.ByteLevel(trim_offsets=False)
    if not _adds_bos(file):
        return plain
    bos = tokens[file.metadata["tokenizer.ggml.bos_token_id"]]
    template = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokens.index(bos))]
    )
    return processors.Sequence([plain, template])


def _config(file: GgufFile) -> dict[str, Any]:
    tokens: list[str] = file.metadata["tokenizer.ggml.tokens"]
    named = {
        f"{hf}_token": tokens[file.metadata[f"tokenizer.ggml.{name}_token_id"]]
        for hf, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if file.metadata.get(f"tokenizer.ggml.{name}_token_id") is not None
    }
    template = file.metadata.get("tokenizer.chat_template")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": _adds_bos(file),
        "model_max_length": file.metadata.get(f"{file.metadata['general.architecture']}.context_length"),
        **named,
        **({"chat_template": template} if template else {}),
    }


def _split_name(file: GgufFile) -> str:
    name: str = file.metadata.get("tokenizer.ggml.pre", "default")
    return name


def _adds_bos(file: GgufFile) -> bool:
    default = _split_name(file) in LLAMA3_LIKE
    wanted = file.metadata.get("tokenizer.ggml.add_bos_token", default)
    return bool(wanted) and "tokenizer.ggml.bos_token_id" in file.metadata
