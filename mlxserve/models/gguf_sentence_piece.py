"""SentencePiece's BPE of a GGUF file: spaces written as "\u2581", unknown characters as bytes, merges by score.

As llama.cpp's `llm_tokenizer_spm` (src/llama-vocab.cpp), and as HF's fast tokenizers of the same models.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from mlxserve.errors import UserError
from mlxserve.models.gguf import GgufFile

SPACE = "\u2581"
NORMAL = 1
"""Of tokenizer.ggml.token_type."""


def check_sentence_piece(file: GgufFile) -> None:
    """Raises UserError if what merges depend on is missing."""
    counts = {len(file.metadata.get(f"tokenizer.ggml.{name}", [])) for name in ("tokens", "scores", "token_type")}
    if len(counts) > 1 or 0 in counts:
        raise UserError(f"{file.path} does not have a score and a type for each of its tokens: get it again.")


def sentence_piece(file: GgufFile) -> Tokenizer:
    """Without special tokens."""
    tokens: list[str] = file.metadata["tokenizer.ggml.tokens"]
    unknown = tokens[file.metadata.get("tokenizer.ggml.unknown_token_id", 0)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocabulary, _merges(file), unk_token=unknown, fuse_unk=True, byte_fallback=True))
    begins_with_space = file.metadata.get("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if begins_with_space else spaces
    texts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*texts, decoders.Strip(" ", 1, 0)] if begins_with_space else texts)
    return tokenizer


def _merges(file: GgufFile) -> list[tuple[str, str]]:
    """Each two pieces that make a third, the best score of a third first: so SentencePiece chooses what to merge."""
    columns = [file.metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type")]
    scores = {piece: score for piece, score, kind in zip(*columns, strict=True) if kind == NORMAL}
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    pairs = ((piece[:at], piece[at:]) for piece in ranked for at in range(1, len(piece)))
    return [(left, right) for left, right in pairs if left in scores and right in scores]
