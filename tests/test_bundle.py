"""The frozen application's surroundings."""

from __future__ import annotations

import sys

import pytest

from mlxserve.bundle import restore_environment

BOOTLOADER = {
    "LD_LIBRARY_PATH": "/app/_internal",
    "_PYI_ARCHIVE_FILE": "/app/mlxserve",
    "_PYI_PARENT_PROCESS_LEVEL": "0",
}


@pytest.mark.parametrize("original", ["", "/usr/local/lib"])
def test_system_programs_get_the_variables_that_the_frozen_application_was_started_with(
    monkeypatch: pytest.MonkeyPatch, original: str
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    variables = {"HOME": "/root", **BOOTLOADER} | ({"LD_LIBRARY_PATH_ORIG": original} if original else {})
    restore_environment(variables)
    assert variables == {"HOME": "/root"} | ({"LD_LIBRARY_PATH": original} if original else {})


def test_run_from_source_the_variables_stay() -> None:
    variables = {"HOME": "/root", **BOOTLOADER}
    restore_environment(variables)
    assert variables == {"HOME": "/root", **BOOTLOADER}
