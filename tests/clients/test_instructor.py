"""instructor, by tools and by JSON schemas."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Run, Told


@pytest.fixture(scope="module")
def told(run: Run) -> Told:
    return run("ask_instructor.py")


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_streamed_and_whole_answers_are_equal_and_fit_the_model(told: Told, mode: str) -> None:
    whole, streamed = told[mode]
    assert whole["name"] in ("soup", "salad", "bread")
    assert 1 <= whole["price"] <= 99
    assert streamed == whole
