"""Figures as text."""

from __future__ import annotations

from statistics import median

from mlxserve.bench.figures import Figures, Percentiles
from mlxserve.bench.sweep import Measured

Row = list[str]

FIRST = ["first ms p50", "p95", "p99"]
BETWEEN = ["between ms p50", "p95", "p99"]
HEADER = ["streams", "requests", "tokens/s", "decode/s", *FIRST, *BETWEEN, "cached"]


def table(measured: list[Measured], subject: int) -> str:
    """The figures of one subject, a line a point; what failed and how tokens were counted is told below."""
    found = [each.figures[subject] for each in measured]
    return "\n".join([*aligned([HEADER, *map(_row, found)]), *notes(found)])


def ratios(measured: list[Measured]) -> str:
    """How many times the second subject's tokens per second the first one's are: median, lowest and highest round."""
    rows = [
        [str(each.point.streams), f"{median(each.ratios):.2f}", f"{min(each.ratios):.2f}-{max(each.ratios):.2f}"]
        for each in measured
        if each.ratios
    ]
    return "\n".join(aligned([["streams", "ratio", "rounds"], *rows]))


def notes(found: list[Figures]) -> list[str]:
    """What must be known to read the figures."""
    lines = []
    for each in found:
        failed = sum(each.errors.values())
        if failed:
            told = "; ".join(f"{error} ({count})" for error, count in each.errors.items())
            lines.append(f"! {each.streams} at a time: {failed} of {each.requests} requests failed: {told}")
        if each.retries:
            lines.append(f"! {each.streams} at a time: {each.retries} connections were lost and tried again")
        if not each.whole:
            lines.append(f"! {each.streams} at a time: interrupted; figures are of the answers so far")
    if not all(each.counted_by_usage for each in found if each.tokens):
        lines.append("! the server tells no usage: events are counted as tokens")
    return lines


def aligned(rows: list[Row]) -> list[str]:
    """Lines of cells, each column as wide as it needs, flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _row(found: Figures) -> Row:
    return [
        str(found.streams),
        str(found.requests - sum(found.errors.values())),
        spread([rates.tokens_per_second for rates in found.rounds]),
        spread([rates.decode_per_second for rates in found.rounds]),
        *_milliseconds(found.first_token),
        *_milliseconds(found.inter_token),
        f"{100 * found.cached_tokens / found.prompt_tokens:.0f}%" if found.prompt_tokens else "-",
    ]


def _milliseconds(times: Percentiles | None) -> list[str]:
    if times is None:
        return ["-"] * 3
    return [
        f"{1000 * each:.0f}" if each >= 0.0995 else f"{1000 * each:.1f}" for each in (times.p50, times.p95, times.p99)
    ]
