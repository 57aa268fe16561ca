"""Bars at the bottom of a terminal: what stands there after a while."""

from __future__ import annotations

import io
import re

import pytest

from mlxserve.bars import Bar, Bars, NoDisplay, ToldBars, told_in
from mlxserve.launch.output import Lines

ERASED = re.compile(r"\033\[(\d+)A\033\[J")


def screen(written: str) -> list[str]:
    """The lines that are seen once all of `written` has come."""
    lines: list[str] = []
    rest = written
    while rest:
        if found := ERASED.match(rest):
            del lines[len(lines) - int(found[1]) :]
            rest = rest[found.end() :]
        else:
            line, _, rest = rest.partition("\n")
            lines.append(line)
    return lines


def test_each_has_a_line_that_is_drawn_anew() -> None:
    terminal = io.StringIO()
    bars = Bars(terminal)
    assert bars.show("rank 1", "reading layers 50 %")
    assert bars.show("rank 0", "fetching model.safetensors 7 %")
    assert bars.show("rank 1", "reading layers 75 %")
    first, second = screen(terminal.getvalue())
    assert first == "rank 0  ━───────────────────────   7 %  fetching model.safetensors"
    assert second == "rank 1  ━━━━━━━━━━━━━━━━━━──────  75 %  reading layers"


def test_what_is_written_goes_above_them() -> None:
    terminal = io.StringIO()
    bars = Bars(terminal)
    bars.show("rank 0", "reading layers 50 %")
    with bars.aside():
        terminal.write("a line of the log\n")
    assert [line[:6] for line in screen(terminal.getvalue())] == ["a line", "rank 0"]


def test_a_sentence_without_a_percentage_is_left_to_the_log() -> None:
    terminal = io.StringIO()
    bars = Bars(terminal)
    bars.show("rank 0", "reading layers 50 %")
    bars.show("rank 1", "reading layers 50 %")
    assert not bars.show("rank 0", "the first pass through all layers")
    assert [line[:6] for line in screen(terminal.getvalue())] == ["rank 1"]
    bars.clear()
    assert screen(terminal.getvalue()) == []


def test_long_lines_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = io.StringIO()
    Bars(terminal).show("rank 0", f"{'fetching ' * 20} 50 %")
    (line,) = screen(terminal.getvalue())
    assert len(line) == 39


def test_a_rank_tells_its_launcher_which_draws() -> None:
    told, terminal, output = io.StringIO(), io.StringIO(), io.BytesIO()
    rank, bars = ToldBars(told), Bars(terminal)
    lines = Lines(output, "rank 0", 0, bars)  # type: ignore[arg-type]
    rank.show("rank 1", "reading layers 40 %")
    assert not rank.show("rank 0", "nothing of that kind")
    lines.feed(told.getvalue().encode() + b"something else\n")
    assert output.getvalue() == b"[rank 0] something else\n"
    assert [line[:6] for line in screen(terminal.getvalue())] == ["rank 1"]
    rank.clear()
    lines.feed(told.getvalue().encode())
    assert screen(terminal.getvalue()) == []


def test_what_only_looks_like_a_bar_is_a_line() -> None:
    assert told_in(b"\x1enonsense") is None
    assert told_in(b'["rank 0","reading",5]') is None
    assert told_in(b'\x1e["rank 0","reading",5]') == Bar("rank 0", "reading", 5)
    assert not NoDisplay().show("rank 0", "reading layers 40 %")
