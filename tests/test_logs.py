"""What the log looks like, on a terminal, in a file and for programs."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from mlxserve import logs
from mlxserve.bars import Bars
from mlxserve.config import Place, Settings
from mlxserve.launch.output import Lines

SECOND = Place(1, 2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The log as the other tests know it."""
    root, ours, captured = logging.getLogger(), logging.getLogger("mlxserve"), logging.getLogger("py.warnings")
    before = list(root.handlers), root.level, ours.level, captured.level
    root.handlers.clear()
    yield
    root.handlers[:] = before[0]
    for logger, level in zip((root, ours, captured), before[1:], strict=True):
        logger.setLevel(level)
    logging.captureWarnings(False)


def written(settings: Settings, target: io.StringIO | None = None) -> str:
    """One of each kind of line."""
    target = target or io.StringIO()
    logging.getLogger().handlers.clear()
    logs.set_up(settings, target)
    logging.getLogger("mlxserve.node").debug("a detail")
    logging.getLogger("mlxserve.node").info("ready: %d layers", 28)
    logging.getLogger("mlxserve.api").warning("slow", extra={"fields": {"ttft": 2.5, "client": "10.0.0.1"}})
    logging.getLogger("httpx").info("HTTP Request: GET")
    return target.getvalue()


def test_a_line_tells_rank_time_and_level() -> None:
    first, second = written(Settings(place=SECOND)).splitlines()
    assert re.fullmatch(r"\[rank 1\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO ready: 28 layers", first)
    assert second.endswith(" WARNING slow")


def test_where_there_is_one_rank_none_is_named() -> None:
    assert "rank" not in written(Settings())


def test_libraries_are_quiet_and_levels_hold() -> None:
    assert "HTTP" not in written(Settings(log_level="debug"))
    assert "a detail" in written(Settings(log_level="debug"))
    assert "a detail" not in written(Settings())
    assert "ready" not in written(Settings(log_level="warning"))
    assert written(Settings(log_level="error")) == ""


def test_colours_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\033[" not in written(Settings())
    assert "\033[33mWARNING\033[0m slow" in written(Settings(), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[" not in written(Settings(), Terminal())


def test_programs_get_an_object_a_line_with_fields_as_fields() -> None:
    first, second = map(json.loads, written(Settings(place=SECOND, log_format="json")).splitlines())
    assert (first["level"], first["rank"], first["message"]) == ("info", 1, "ready: 28 layers")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert (second["ttft"], second["client"], second["logger"]) == (2.5, "10.0.0.1", "mlxserve.api")


def test_a_traceback_stays_on_its_objects_line() -> None:
    target = io.StringIO()
    written(Settings(log_format="json"), target)
    try:
        raise ValueError("no\nway")
    except ValueError:
        logging.getLogger("mlxserve.node").exception("a mistake")
    *_, line = target.getvalue().splitlines()
    assert "ValueError: no\nway" in json.loads(line)["traceback"]


def test_a_launcher_names_a_rank_once() -> None:
    target = io.BytesIO()
    lines = Lines(target, "rank 1", 1, Bars(io.StringIO()))  # type: ignore[arg-type]
    lines.feed(b'[rank 1] 2026-11-28 13:22:05 INFO ready\nplain\n{"message":"ready"}\n')
    assert target.getvalue() == b'[rank 1] 2026-11-28 13:22:05 INFO ready\n[rank 1] plain\n{"message":"ready"}\n'
