"""Drawn tokens are looked at without asking for anything to be computed."""

from __future__ import annotations

from typing import Any, cast

from mlxserve.engine.drawing import Drawing, Drawn
from mlxserve.engine.messages import Step
from tests.engine.tiny import submit


class Computed:
    """Tokens that can only be read: whatever is computed of them would wait behind the step that runs."""

    def tolist(self) -> list[int]:
        return [7]


def test_reading_tokens_computes_nothing() -> None:
    drawing, step = Drawing(), Step([], [])
    drawing._unread.append(Drawn([submit(1, [1, 2, 3])], cast(Any, Computed()), None))
    drawing.read(step)
    assert [(new.id, new.token) for new in step.tokens] == [(1, 7)]
