"""Writes MODELS.md, the list of mlx-lm's model types and what becomes of each: `python -m tests.pipeline.models_md`."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import mlx_lm
import mlx_lm.models

from mlxserve.errors import UserError

from .comparison import Expected, split_in_one_process, tiny
from .metal_stand_ins import IS_NEEDED, NEEDS_METAL
from .tiny_models import CONFIGS

DOCUMENT = Path(__file__).parents[2] / "MODELS.md"
RANKS = (2, 3)
BEGINNING = """# Model types

Each model type of mlx-lm {version}, as a tiny random model of at least four layers, over two and three ranks on MLX's
CPU backend. *Equal*: its logits are, bit by bit, those of mlx-lm's own model on one rank, in prompts and decode steps
alone, in prompts read in pieces, after a stored beginning, and in batches. Types in whose models a prompt gets other
tokens in a batch than alone, or that take one prompt at a time, run one after another. Made by
`python -m tests.pipeline.models_md`.

Of {count} types {split} are equal on two and three ranks; {refused} are refused at start, for the reason in the list;
{untried} could not be tried here.

| type | on 2 ranks | on 3 ranks | in batches | |
| --- | --- | --- | --- | --- |
"""


def installed_types() -> list[str]:
    """The types that the installed mlx-lm has a model for, by the names of their modules."""
    return [name for name in (module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__)) if _is_type(name)]


def main() -> None:
    rows = []
    for model_type in installed_types():
        rows.append(_row(model_type))
        print(*rows[-1], flush=True)
    split = sum(row[1:3] == ["equal", "equal"] for row in rows)
    untried = sum(row[1] == "" for row in rows)
    text = BEGINNING.format(
        version=mlx_lm.__version__, count=len(rows), split=split, refused=len(rows) - split - untried, untried=untried
    )
    DOCUMENT.write_text(text + "".join(f"| {' | '.join(row)} |\n" for row in rows))


def _row(model_type: str) -> list[str]:
    name = f"`{model_type}`"
    if model_type not in CONFIGS:
        return [name, "", "", "", "needs a package that mlxserve does not come with: not tried"]
    expected = Expected(tiny(model_type))
    results, reasons = [], []
    for ranks in RANKS:
        try:
            differences = expected.differences(split_in_one_process(tiny(model_type), ranks, expected.batchable))
            results.append("differs" if differences else "equal")
            reasons += differences
        except UserError as error:
            results.append("refused")
            reasons.append(str(error))
    notes = [*dict.fromkeys(reasons), *_notes(model_type, expected)]
    return [name, *results, "yes" if expected.batchable else "one after another", "; ".join(notes)]


def _notes(model_type: str, expected: Expected) -> Iterator[str]:
    if IS_NEEDED and model_type in NEEDS_METAL:
        yield "compared with stand-ins in the place of its Metal kernels"
    if expected.depends_on_pieces:
        yield "as in mlx-lm, a long prompt's logits depend somewhat on the pieces in which it is read"


def _is_type(module: str) -> bool:
    """Whether the module has a model and its arguments; it is not imported, since some need packages."""
    spec = find_spec(f"mlx_lm.models.{module}")
    assert spec
    assert spec.origin
    return {"Model", "ModelArgs"} <= set(_defined(ast.parse(Path(spec.origin).read_text()).body))


def _defined(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case ast.ClassDef(name=name):
                yield name
            case ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name for alias in aliases)


if __name__ == "__main__":
    main()
