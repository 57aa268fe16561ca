"""Two minutes of everything at once; `python -m tests.system.soak` does the same for longer."""

from __future__ import annotations

from tests.system.soak import soak

MINUTES = 2.0


def test_under_a_mixed_load_every_answer_is_right_and_nothing_grows() -> None:
    report = soak(MINUTES)
    print(report)
    assert not report.problems
    assert report.load.done.total() > 50
