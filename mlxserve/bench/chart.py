"""A bar chart for a terminal."""

from __future__ import annotations

from mlxserve.bench.sweep import Measured

MOST_WIDTH = 60
EIGHTHS = " ▏▎▍▌▋▊▉"
FULL = "█"


def chart(measured: list[Measured], names: list[str], width: int, blocks: bool) -> str:
    """Tokens per second by number of streams, a bar a subject; `blocks`: the terminal has block characters."""
    most = max((each.tokens_per_second for point in measured for each in point.figures), default=0.0)
    labels = [name if len(names) > 1 else "" for name in names]
    left = max(map(len, labels)) + 2
    longest = max(10, min(MOST_WIDTH, width - left - 18))
    lines = ["tokens/s by streams"]
    for point in measured:
        for index, (label, found) in enumerate(zip(labels, point.figures, strict=True)):
            streams = str(point.point.streams) if index == 0 else ""
            bar = _bar(found.tokens_per_second / most if most else 0.0, longest, blocks)
            lines.append(f"{streams:>4}  {label.ljust(left)}{bar} {found.tokens_per_second:.1f}")
    return "\n".join(lines)


def _bar(share: float, longest: int, blocks: bool) -> str:
    eighths = round(share * longest * 8)
    if not blocks:
        return "#" * round(eighths / 8)
    return FULL * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
