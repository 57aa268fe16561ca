"""An engine's mlx-lm has no tokenizers, and all the models."""

from __future__ import annotations

import json
import subprocess
import sys

LEAN = "from mlxserve.engine.lean import leave_out_tokenizers; leave_out_tokenizers()"
USUAL = "import mlxserve.engine.lead, mlxserve.engine.follow"
MODULES = "import json, sys; print(json.dumps(list(sys.modules)))"
ENGINE = """
import json, sys
from mlxserve.engine import process
def ready(*_):  # what comes after all is imported
    print(json.dumps(list(sys.modules)))
    sys.exit()
process.with_capacity = ready
process._run(None, None)
"""
MODELS = """
import importlib, json, pkgutil, mlx_lm.models
found = {}
for module in pkgutil.iter_modules(mlx_lm.models.__path__, "mlx_lm.models."):
    try:
        importlib.import_module(module.name)
        found[module.name] = ""
    except (Exception, SystemExit) as error:
        found[module.name] = repr(error)
print(json.dumps(found))
"""


def printed(*statements: str) -> object:
    """What a new process that runs them prints as JSON, at last."""
    command = [sys.executable, "-c", "\n".join(statements)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_engine_loads_neither_transformers_nor_mlx_lms_generator() -> None:
    usual, lean = printed(USUAL, MODULES), printed(ENGINE)
    assert isinstance(usual, list)
    assert isinstance(lean, list)
    left_out = {"transformers", "mlx_lm.generate", "mlx_lm.convert"}
    assert left_out <= set(usual)
    assert not left_out & set(lean)
    assert "mlx_lm.utils" in lean


def test_all_model_types_are_there_without_them() -> None:
    assert printed(LEAN, MODELS) == printed(MODELS)


def test_nothing_happens_where_mlx_lm_was_imported_before() -> None:
    assert printed("import json, mlx_lm", LEAN, "print(json.dumps(callable(mlx_lm.generate)))") is True
