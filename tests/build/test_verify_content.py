"""What verify demands of any application: modules, metadata, and nothing that only developers need."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import content_rules
import linux_rules
import mlx.core
import mlx_lm.models
import pytest
import verify
from frozen import Frozen
from PyInstaller.archive.writers import CArchiveWriter, ZlibArchiveWriter

from tests.build.conftest import ROOT

MODELS = {f"mlx_lm.models.{each.name}" for each in pkgutil.iter_modules(mlx_lm.models.__path__)}


def application(folder: Path, modules: Iterable[str] = (), files: Iterable[str] = ()) -> Frozen:
    """A program with `modules` in its archive, as PyInstaller writes it, and empty `files` in `_internal`."""
    for name in files:
        path = folder / "_internal" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    code = {name: compile("", name, "exec") for name in modules}
    ZlibArchiveWriter(str(folder / "PYZ.pyz"), [(name, "", "PYMODULE") for name in code], code)
    pyz = ("PYZ.pyz", str(folder / "PYZ.pyz"), False, "z")
    CArchiveWriter(str(folder / "mlxserve"), [pyz], "libpython.so")
    return Frozen(folder, "linux")


def test_a_missing_model_type_is_named(tmp_path: Path) -> None:
    frozen = application(tmp_path, MODELS - {"mlx_lm.models.qwen3"})
    assert next(content_rules.models(frozen)).startswith("without mlx_lm.models.qwen3: add collect_submodules")


def test_modules_that_lie_as_files_count(tmp_path: Path) -> None:
    frozen = application(tmp_path, MODELS - {"mlx_lm.models.qwen3"}, ["mlx_lm/models/qwen3.pyc"])
    assert not any("mlx_lm.models" in fault for fault in content_rules.models(frozen))


def test_what_cpp_imports_is_demanded(tmp_path: Path) -> None:
    assert list(content_rules.hidden(application(tmp_path))) == [
        "without mlx._reprlib_fix: add it to the hidden imports"
    ]


@pytest.mark.parametrize(
    ("module", "rule"),
    [
        ("torch", content_rules.unwanted),
        ("torch.nn", content_rules.unwanted),
        ("pytest", content_rules.unwanted),
        ("numpy.tests.test_ctypeslib", content_rules.tests),
        ("numpy.conftest", content_rules.tests),
    ],
)
def test_other_frameworks_and_tests_are_named(tmp_path: Path, module: str, rule: verify.Rule) -> None:
    (fault,) = rule(application(tmp_path, [module]))
    assert module.split(".")[0] in fault


def test_modules_that_are_only_called_tests_are_kept(tmp_path: Path) -> None:
    frozen = application(tmp_path, ["jinja2.tests", "torchless", "numpy.testing"])
    assert [*content_rules.tests(frozen), *content_rules.unwanted(frozen)] == []


def test_headers_are_named(tmp_path: Path) -> None:
    frozen = application(tmp_path, files=["mlx/include/mlx/array.h", "mlx/lib/libmlx.so"])
    assert list(content_rules.developers(frozen)) == ["has _internal/mlx/include/mlx/array.h: leave it out in the spec"]


def test_metadata_is_demanded(tmp_path: Path) -> None:
    files = ["mlx-0.32.4.dist-info/METADATA", "mlx_lm-0.32.2.dist-info/METADATA"]
    assert list(content_rules.metadata(application(tmp_path, files=files))) == [
        "without mlx-*.dist-info/WHEEL: add it to the metadata in the spec"
    ]


def test_a_library_that_the_system_need_not_have_is_named(tmp_path: Path) -> None:
    frozen = application(tmp_path, files=["libstdc++.so.6", "libgcc_s.so.1"])
    frozen.executable.write_bytes(Path(mlx.core.__file__).read_bytes())
    assert list(linux_rules.libraries(frozen)) == ["mlxserve loads libmlx.so: add it to the spec's binaries"]
    (frozen.internal / "libmlx.so").touch()
    assert list(linux_rules.libraries(frozen)) == []


@pytest.mark.parametrize("target", ["missing", "/etc/hosts", "../mlxserve"])
def test_a_symlink_that_leads_elsewhere_is_named(tmp_path: Path, target: str) -> None:
    frozen = application(tmp_path, files=["libmlx.so"])
    (frozen.internal / "link").symlink_to(target)
    (fault,) = linux_rules.links(frozen)
    assert f"leads to {target}" in fault


def test_a_second_libmlx_is_named(tmp_path: Path) -> None:
    frozen = application(tmp_path, files=["libmlx.so", "mlx/lib/libmlx.so"])
    (fault,) = linux_rules.one_libmlx(frozen)
    assert "_internal/libmlx.so is a second libmlx" in fault


def test_an_application_that_does_not_start_is_named(tmp_path: Path) -> None:
    frozen = application(tmp_path)
    frozen.executable.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    frozen.executable.chmod(0o755)
    assert [fault.rpartition("/")[2] for rule in (verify.starts, verify.computes) for fault in rule(frozen)] == [
        "mlxserve version` ended with 3: broken",
        "mlxserve check` ended with 3: broken",
    ]


def test_the_one_file_is_checked_where_it_unpacks_itself(tmp_path: Path) -> None:
    file = tmp_path / "packed"
    file.write_text(f"#!/bin/sh\necho mlxserve 0.1.0; echo unpacked {tmp_path}\n")
    file.chmod(0o755)
    assert verify.folder_of(file) == tmp_path


def test_nothing_to_check_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "build" / "verify.py", tmp_path / "none"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, f"there is no {tmp_path / 'none'}: run `make binary`\n")
