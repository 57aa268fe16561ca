"""What `mlxserve check --json` prints: one document, whatever comes of the check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from mlxserve.errors import MlxserveError
from mlxserve.launch.check.finding import Finding


class Group(msgspec.Struct, frozen=True):
    """What came of the group: its exit code, the self-test's lines, and all that was written to stderr."""

    ok: bool
    exit_code: int
    lines: list[str]
    log: list[str]


class Report(msgspec.Struct, frozen=True):
    """No group where a finding is an error. `error`: why the check itself could not be made, which is on stderr too."""

    ok: bool
    findings: list[Finding] = []
    group: Group | None = None
    error: str | None = None


def write(report: Report) -> None:
    """Print it."""
    print(msgspec.json.encode(report).decode(), flush=True)


@contextmanager
def of_errors() -> Iterator[None]:
    """Print the report of a check that an error or Ctrl-C ends, and let that go on."""
    try:
        yield
    except MlxserveError as error:
        write(Report(False, error=str(error)))
        raise
    except KeyboardInterrupt:
        write(Report(False, error="interrupted"))
        raise
