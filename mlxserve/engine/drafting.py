"""Loading the draft model, after making sure that its tokens are those of the large one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from mlxserve.config import Place, Settings
from mlxserve.engine.draft_model import DraftModel
from mlxserve.engine.part import load_part
from mlxserve.engine.warmup import first_pace, measured, warm_up
from mlxserve.errors import UserError
from mlxserve.pipeline.pipeline import OneRank


def load_draft_model(settings: Settings, folder: Path, vocabulary: int, report: Callable[[str], None]) -> DraftModel:
    """The draft model that the settings name, wholly on this rank.

    `folder` has the large model's tokenizer, `vocabulary` is the width of its logits. Raises UserError.
    """
    name = settings.draft_model
    alone = msgspec.structs.replace(
        settings, model=name, adapter="", place=Place(), split=(), kv_bits=0, prefix_cache_dir=""
    )
    part = load_part(alone, report, lambda found: _check_tokens(name, found.folder, folder))
    pipeline = OneRank(part.loaded.stage, part.loaded.batchable)
    width = warm_up(pipeline)
    if _tokens(part.folder) is None and width != vocabulary:
        raise _other_size(name, width, vocabulary)
    if not (part.loaded.stage.cuttable and pipeline.batchable):
        raise UserError(
            f"the draft model {name} cannot take back what it guessed wrongly for several sequences at once: "
            "choose one whose layers all have plain KV caches."
        )
    return DraftModel(pipeline, vocabulary, first_pace(pipeline.depth, measured(pipeline)))


def _check_tokens(name: str, folder: Path, large: Path) -> None:
    """Raises UserError if the two tokenizers can be read and have other tokens."""
    own, wanted = _tokens(folder), _tokens(large)
    if own is None or wanted is None or own == wanted:
        return
    if len(own) != len(wanted):
        raise _other_size(name, len(own), len(wanted))
    differing = sum(wanted.get(text) != token for text, token in own.items())
    raise UserError(
        f"the draft model {name} has another vocabulary: {differing} of its {len(own)} tokens are not those of the "
        "model that is served. Choose a smaller model of the same family."
    )


def _other_size(name: str, own: int, wanted: int) -> UserError:
    return UserError(
        f"the draft model {name} has another vocabulary: {own} tokens, but the model that is served has {wanted}. "
        "Choose a smaller model of the same family."
    )


def _tokens(folder: Path) -> dict[str, int] | None:
    """Every token's text and number; None where the tokenizer is of a kind that cannot be compared."""
    from tokenizers import Tokenizer

    try:
        tokens: dict[str, int] = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    except Exception:  # the library raises nothing narrower
        return None
    return tokens
