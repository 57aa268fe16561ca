from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlxserve.service.job import PATH, Job

AWKWARD = (
    "a b",
    "%h 100%",
    "$HOME ${HOME}",
    '"q"',
    "'",
    "back\\slash\\",
    "two\nlines",
    "tab\tstop",
    ";",
    "ü",
    "-x",
    "",
)
"""Words that mean something else to systemd's syntax, to shells, or to XML, unless they are quoted."""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job with awkward words, in a folder with an awkward name."""
    folder = tmp_path / "a b%c $HOME <&> \\"
    folder.mkdir()
    return Job(
        name="mlxserve-test",
        command=(sys.executable, "-m", "mlxserve", "launch", *AWKWARD),
        folder=str(folder),
        user="daemon",
        uid=1,
        gid=1,
        home="/home/anna",
        environment={"HOME": "/home/anna", "PATH": PATH, "HF_HOME": '/a b/100%/"q"'},
    )
