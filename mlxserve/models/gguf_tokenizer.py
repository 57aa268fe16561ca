"""tokenizer.json and tokenizer_config.json from a GGUF file's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from mlxserve.errors import UserError
from mlxserve.models.gguf import GgufFile
from mlxserve.models.gguf_byte_level import LLAMA3_LIKE, byte_level, check_byte_level, split_name
from mlxserve.models.gguf_sentence_piece import check_sentence_piece, sentence_piece

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
"""Of tokenizer.ggml.token_type."""


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Raises UserError if the tokenizer is of a kind that is not supported."""
    check_tokenizer(file)
    tokenizer_of(file).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_config(file), indent=2), encoding="utf-8")


def check_tokenizer(file: GgufFile) -> None:
    """Raises UserError if the tokenizer is of a kind that is not supported."""
    match file.metadata.get("tokenizer.ggml.model", "none"):
        case "gpt2":
            check_byte_level(file)
        case "llama":
            check_sentence_piece(file)
        case model:
            kind = "no tokenizer" if model == "none" else f"the tokenizer {model!r}"
            raise UserError(
                f"{file.path} has {kind}: of GGUF files only byte-level BPE ('gpt2') and SentencePiece ('llama') "
                "are supported; use the MLX version of the model."
            )


def tokenizer_of(file: GgufFile) -> Tokenizer:
    """The tokenizer, as the library has it. Raises UserError if its tokens and merges contradict each other."""
    try:
        tokenizer = sentence_piece(file) if _is_sentence_piece(file) else byte_level(file)
    except Exception as error:  # the library has no type of its own for it
        raise UserError(f"{file.path} has a tokenizer that contradicts itself ({error}): get it again.") from error
    _add_special_tokens(tokenizer, file)
    if steps := _post_processors(file):
        tokenizer.post_processor = processors.Sequence(steps)
    return tokenizer


def _is_sentence_piece(file: GgufFile) -> bool:
    return bool(file.metadata["tokenizer.ggml.model"] == "llama")


def _add_special_tokens(tokenizer: Tokenizer, file: GgufFile) -> None:
    """All of a kind at once: the library is slow with one after another of thousands."""
    tokens, kinds = (file.metadata.get(f"tokenizer.ggml.{name}", []) for name in ("tokens", "token_type"))
    by_kind = list(zip(tokens, kinds, strict=False))
    special = [token for token, kind in by_kind if kind in (UNKNOWN, CONTROL)]
    plain = [token for token, kind in by_kind if kind == USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])


def _post_processors(file: GgufFile) -> list[Any]:
    steps: list[Any] = [] if _is_sentence_piece(file) else [processors.ByteLevel(trim_offsets=False)]
    if _adds_bos(file):
        number: int = file.metadata["tokenizer.ggml.bos_token_id"]
        bos: str = file.metadata["tokenizer.ggml.tokens"][number]
        begin = {"single": f"{bos} $A", "pair": f"{bos} $A {bos} $B", "special_tokens": [(bos, number)]}
        steps.append(processors.TemplateProcessing(**begin))
    return steps


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


def _adds_bos(file: GgufFile) -> bool:
    default = _is_sentence_piece(file) or split_name(file) in LLAMA3_LIKE
    wanted = file.metadata.get("tokenizer.ggml.add_bos_token", default)
    return bool(wanted) and "tokenizer.ggml.bos_token_id" in file.metadata
