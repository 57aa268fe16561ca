"""The errors that somebody outside the program can cause, each with a sentence to act on.

MlxserveError
├── UserError           a flag, a file, a model: mend it and start again (exit code 2)
├── BrokenBuild         MLX cannot be loaded or does not compute (exit code 3)
├── FormationError      the group of ranks did not form in time (exit code 4)
├── RankLost            a rank of a formed group is gone (exit code 5; the node starts its engine anew)
├── DamagedData         what ranks sent each other at start arrived changed (exit code 6; the same)
├── CheckFailed         `mlxserve check` found something (exit code 1)
└── EngineError         what an open request is told
    ├── EngineNotReady      no engine serves at this moment
    ├── RequestFailed       this request, and it alone, cannot go on
    └── RequestCancelled    somebody ended it by its id
"""

from __future__ import annotations


class MlxserveError(Exception):
    """Base of all. `exit_code` is what a process that ends by it returns."""

    exit_code = 1


class UserError(MlxserveError):
    """Something that the user wrote or named is wrong; the message says what, where, and what to do."""

    exit_code = 2


class BrokenBuild(MlxserveError):
    """MLX cannot be loaded or does not compute; the message names the files that it looks for."""

    exit_code = 3


class FormationError(MlxserveError):
    """The group did not form; the message names the ranks that are missing."""

    exit_code = 4


class RankLost(MlxserveError):
    """A rank of the formed group closed its link or fell silent."""

    exit_code = 5


class DamagedData(MlxserveError):
    """What a rank received in the self-test differs from what was sent; the message says which rank, what, and how."""

    exit_code = 6


class CheckFailed(MlxserveError):
    """The self-test failed; the message is the line that did."""


class EngineError(MlxserveError):
    """An open request cannot be answered."""


class EngineNotReady(EngineError):
    """No engine serves at this moment: still loading, or lost."""


class RequestFailed(EngineError):
    """The engine refused or dropped this one request."""


class RequestCancelled(EngineError):
    """Somebody, not its client by leaving, ended this one request."""
