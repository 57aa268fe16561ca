"""What of transformers is frozen: what loads a tokenizer and a config. Its models, which need PyTorch, are not.

transformers finds its own classes by reading the source files of its packages, at every start. What it finds is
written down when the application is frozen (`import_structure`), and given to it by the runtime hook.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

LEFT_OUT = (
    *("cli", "distributed", "exporters", "pipelines", "quantizers", "testing_utils", "trainer*", "training_args*"),
    *("loss", "decision", "data", "conversion_mapping", "core_model_loading", "modeling_utils", "modeling_outputs"),
    *("optimization", "masking_utils", "fusion_mapping", "modeling_flash_attention_utils", "modelcard"),
    *("modeling_gguf_pytorch_utils", "generation.continuous_batching", "generation.utils"),
    *("models.*.modeling_*", "models.*.modular_*", "models.*.convert_*", "models.*.generation_*"),
    *("models.*.image_processing_*", "models.*.video_processing_*", "models.*.processing_*"),
    *("models.*.feature_extraction_*",),
)
"""Patterns of module names below `transformers`; a package goes with all that is in it."""
KEPT = ("models.auto.*",)
"""These stay although a pattern above says otherwise."""


def folder() -> Path:
    """Of the installed package, which is not imported."""
    spec = find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def is_kept(module: str) -> bool:
    """Whether `module`, named below `transformers`, is frozen."""
    if any(fnmatchcase(module, pattern) for pattern in KEPT):
        return True
    parts = module.split(".")
    ancestors = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return not any(fnmatchcase(name, pattern) for name in ancestors for pattern in LEFT_OUT)


def modules() -> Iterator[str]:
    """All modules and packages of transformers, named below it."""
    root = folder()
    for path in sorted(root.rglob("*.py")):
        name = path.parent if path.name == "__init__.py" else path.with_suffix("")
        if name != root:
            yield ".".join(name.relative_to(root).parts)


def left_out() -> list[str]:
    """Full names of the modules that are not frozen."""
    return [f"transformers.{module}" for module in modules() if not is_kept(module)]


def found_by_name() -> list[str]:
    """Full names of the modules that transformers imports by names it puts together."""
    return [f"transformers.{module}" for module in modules() if module.startswith("models.") and is_kept(module)]


def import_structure() -> str:
    """What transformers reads from the source files of its models, less what is left out, as JSON.

    [[backends, {module: [classes]}], ...], as `transformers.utils.import_utils.define_import_structure` has it.
    """
    from transformers.utils.import_utils import define_import_structure

    found = define_import_structure(str(folder() / "models"))
    return json.dumps(
        [[sorted(backends), _kept_classes(classes)] for backends, classes in sorted(found.items(), key=_by_backends)],
        separators=(",", ":"),
    )


def _kept_classes(classes: dict[str, set[str]]) -> dict[str, list[str]]:
    return {module: sorted(names) for module, names in sorted(classes.items()) if is_kept(f"models.{module}")}


def _by_backends(entry: tuple[frozenset[str], object]) -> list[str]:
    return sorted(entry[0])
