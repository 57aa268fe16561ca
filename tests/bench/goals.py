"""What the benchmark must show: each goal with what was measured for it."""

from __future__ import annotations

from statistics import median
from typing import Literal

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """Something that a number must be; `measured` has one a round, and is empty where it could not be measured."""

    part: str
    what: str
    sign: Literal["≥", "≤"]
    bound: float
    measured: list[float]
    note: str = ""
    run: str = ""
    """When it was measured, and with which build."""

    @property
    def value(self) -> float | None:
        """The median."""
        return median(self.measured) if self.measured else None

    @property
    def met(self) -> bool:
        """Whether it was reached; not so where nothing was measured."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.sign == "≥" else self.value <= self.bound


def paired(ours: list[float], theirs: list[float]) -> list[float]:
    """The ratios, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=False) if other]
