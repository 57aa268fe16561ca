"""The cluster as tables and bars of text."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mlxserve.engine.messages import MemoryFacts
from mlxserve.top.state import Rank, Status, Traffic

COLOURS = {"healthy": "green", "loading": "yellow", "recovering": "yellow", "draining": "yellow"}
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 60
BAR_WIDTH = 5
COLUMNS = ("rank", "host", "device", "layers", "memory", "busy", "tokens/s", "link")
NARROW = 100
SHORT, LONG = 8, 24
"""Characters that a host's and a device's name may have, on narrow terminals and on others."""
MEMORY_COLOURS = {"weights": "blue", "kv": "magenta", "prefix": "cyan", "cache": "bright_black"}


def view(traffic: Traffic, url: str, width: int) -> RenderableType:
    """All of it, for rich to print, on a terminal so many characters wide."""
    return Group(
        _status(traffic.status, url, traffic.now),
        Text(),
        _ranks(traffic, LONG if width >= NARROW else SHORT),
        Text(),
        _figures(traffic),
    )


def lost(url: str, reason: str) -> RenderableType:
    """In its stead, while the server cannot be asked."""
    return Group(_status(Status("unreachable", reason), url, time.time()))


def _status(status: Status, url: str, now: float) -> Text:
    colour = COLOURS.get(status.status, "red")
    since = f" for {_span(now - status.since)}" if status.since else ""
    reason = f": {status.reason}" if status.reason and status.status != "healthy" else ""
    return Text.assemble((f"● {status.status}", f"bold {colour}"), since, reason, ("  " + url, "dim"))


def _ranks(traffic: Traffic, longest: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in COLUMNS:
        table.add_column(name, no_wrap=True)
    for rank in traffic.ranks:
        table.add_row(*_row(rank, longest))
    return table


def _row(rank: Rank, longest: int) -> Iterable[RenderableType]:
    yield str(rank.rank)
    yield _cut(rank.host, longest)
    yield _cut(rank.device, longest)
    yield "-".join(map(str, rank.layers)) if rank.layers else ""
    yield _memory(rank.memory) if rank.memory.total else Text(rank.progress)
    yield Text.assemble(_bar([(rank.busy, "green")]), f" {rank.busy:.0%}")
    yield f"{rank.tokens_per_second:8.1f}"
    yield _link(rank)


def _memory(memory: MemoryFacts) -> Text:
    shares = [(getattr(memory, name) / memory.total, colour) for name, colour in MEMORY_COLOURS.items()]
    used = sum(getattr(memory, name) for name in MEMORY_COLOURS)
    return Text.assemble(_bar(shares), f" {used / 1e9:.1f}/{memory.total / 1e9:.0f} GB")


def _link(rank: Rank) -> str:
    if rank.link.latency is None:
        return ""
    return f"{rank.link.latency * 1e3:.1f} ms {rank.link.bytes_per_second / 1e6:.1f} MB/s"


def _figures(traffic: Traffic) -> Table:
    minutes, totals = traffic.minutes, traffic.totals
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(
        "requests", f"{traffic.running} running, {traffic.waiting} waiting, {totals.get('requests', 0):.0f} done"
    )
    for name, series in (
        ("generated/s", minutes.generated_tokens_per_second),
        ("prompts/s", minutes.prompt_tokens_per_second),
    ):
        table.add_row(name, f"{series[-1] if series else 0:.1f}", _sparks(series))
    for name, times in (("first token", minutes.ttft), ("between", minutes.inter_token)):
        known = [seconds for seconds in times if seconds is not None]
        table.add_row(name, f"{statistics.median(known) * 1e3:.0f} ms" if known else "-")
    for name, part, whole in (
        ("prefixes found", "prefix_hits", "prefix_queries"),
        ("guesses right", "accepted_tokens", "draft_tokens"),
    ):
        table.add_row(name, f"{totals[part] / totals[whole]:.0%}" if totals.get(whole) else "-")
    return table


def _sparks(series: Sequence[float]) -> str:
    """The last values as blocks, the highest as the full one."""
    last = list(series[-SPARK_WIDTH:])
    most = max(last, default=0.0)
    return "".join(SPARKS[round(value / most * (len(SPARKS) - 1))] for value in last) if most else ""


def _bar(shares: Iterable[tuple[float, str]]) -> Text:
    """Shares of a whole, each in its colour, what is above nothing at least as one block."""
    bar, used = Text(), 0
    for share, colour in shares:
        blocks = min(BAR_WIDTH - used, max(round(share * BAR_WIDTH), 1 if share > 0.01 else 0))
        bar.append("█" * blocks, colour)
        used += blocks
    return bar.append("░" * (BAR_WIDTH - used), "bright_black")


def _cut(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _span(seconds: float) -> str:
    """A length of time, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
