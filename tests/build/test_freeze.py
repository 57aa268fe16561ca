"""What is chosen for the frozen application: all that is needed, whatever else the environment holds."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.build.conftest import ROOT

sys.path.insert(0, str(ROOT / "spec"))

import libraries
import requirements
import transformers_parts
from mlx_layout import Layout

HOOK = ROOT / "spec" / "hooks" / "runtime-transformers.py"
LOAD_ALL = """
import sys
import mlx_lm.utils
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name
classes = [tokenizer_class_from_name(name) for name in TOKENIZER_MAPPING_NAMES.values() if name]
configs = [CONFIG_MAPPING[name] for name in CONFIG_MAPPING_NAMES]
assert len(classes) > 300 and len(configs) > 300
print(*(name for name in sys.modules if name.startswith("transformers.")))
"""
"""Loads the tokenizers and configs of all models, and prints the modules of transformers that this took."""

Structure = dict[frozenset[str], dict[str, set[str]]]


def test_no_tokenizer_and_no_config_needs_a_part_of_transformers_that_is_left_out() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOAD_ALL], check=True, capture_output=True, text=True).stdout.split()
    needed = [name.removeprefix("transformers.") for name in loaded]
    assert "models.llama.tokenization_llama" in needed
    assert [name for name in needed if not transformers_parts.is_kept(name)] == []


def test_what_takes_the_most_space_in_transformers_is_left_out() -> None:
    left_out = transformers_parts.left_out()
    assert {"transformers.models.llama.modeling_llama", "transformers.trainer", "transformers.pipelines"} <= {*left_out}
    assert len(left_out) > 1500


@pytest.fixture
def structure_when_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Structure]:
    """What the runtime hook answers in an application whose files lie in `tmp_path`."""
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "import_structure.json").write_text(transformers_parts.import_structure())
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path), raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    answer: Callable[..., Structure] = runpy.run_path(str(HOOK))["define_import_structure"]
    return answer


def test_transformers_finds_the_same_classes_as_in_its_source_files(
    tmp_path: Path, structure_when_frozen: Callable[..., Structure]
) -> None:
    from transformers.utils.import_utils import define_import_structure

    models = transformers_parts.folder() / "models"
    packages = sorted(path.parent.relative_to(models) for path in models.glob("*/__init__.py"))
    assert Path("llama") in packages
    for package in packages:
        frozen = structure_when_frozen(str(tmp_path / "transformers" / "models" / package / "__init__.pyc"))
        read = define_import_structure(str(models / package / "__init__.py"))
        assert _without_empty(frozen) == _kept(read, f"models.{package}."), package


def test_transformers_finds_the_models_of_all_packages_under_their_prefix(
    tmp_path: Path, structure_when_frozen: Callable[..., Structure]
) -> None:
    found = structure_when_frozen(tmp_path / "transformers" / "models", prefix="models")
    assert "LlamaTokenizer" in found[frozenset()]["models.llama.tokenization_llama"]
    assert all(module.startswith("models.") for modules in found.values() for module in modules)


def test_packages_that_only_developers_have_stay_out_although_others_could_use_them() -> None:
    assert {"pytest", "mypy", "PyInstaller"} <= {*requirements.not_required()}
    assert requirements.required() >= {"mlx", "mlx-lm", "transformers", "tokenizers", "numpy", "uvicorn"}
    assert not requirements.required() & {"mlxserve", "typer", "pydantic", "pytest"}


def test_every_version_that_transformers_checks_when_it_starts_is_there() -> None:
    from transformers.dependency_versions_check import pkgs_to_check_at_runtime

    described = {Path(folder).name.partition("-")[0].replace("_", "-") for _, folder in requirements.metadata()}
    assert {*pkgs_to_check_at_runtime} - {"python", "accelerate"} <= described


def test_nothing_of_a_distribution_is_taken_that_names_a_path_of_the_build_machine() -> None:
    files = [Path(file) for file, _ in requirements.metadata()]
    assert {"METADATA", "WHEEL"} <= {file.name for file in files}
    assert {file.name for file in files} <= {"METADATA", "WHEEL", "top_level.txt"}


def test_the_layout_replaces_what_was_found_of_mlx() -> None:
    found = [
        ("libmlx.so", "mlx/lib/libmlx.so", "SYMLINK"),
        ("mlx/lib/libmlx.so", "/elsewhere/libmlx.so", "BINARY"),
        ("libz.so.1", "/usr/lib/libz.so.1", "BINARY"),
        ("libcudart.so", "/usr/lib/libcudart.so", "BINARY"),
    ]
    layout = Layout(
        binaries=[("mlx/lib/libmlx.so", "/wheel/libmlx.so")], symlinks=[("a.metallib", "mlx/lib/a.metallib")]
    )
    assert libraries.with_layout(found, layout) == [
        ("libz.so.1", "/usr/lib/libz.so.1", "BINARY"),
        ("mlx/lib/libmlx.so", "/wheel/libmlx.so", "BINARY"),
        ("a.metallib", "mlx/lib/a.metallib", "SYMLINK"),
    ]


def _without_empty(structure: Structure) -> Structure:
    return {backends: modules for backends, modules in structure.items() if modules}


def _kept(structure: dict[Any, dict[str, set[str]]], prefix: str) -> Structure:
    return _without_empty(
        {
            backends: {
                module: set(names) for module, names in modules.items() if transformers_parts.is_kept(prefix + module)
            }
            for backends, modules in structure.items()
        }
    )
