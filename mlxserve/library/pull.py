"""`mlxserve pull`: all of a model is on this machine afterwards, wherever it comes from."""

from __future__ import annotations

from mlxserve.bars import display_for
from mlxserve.launch.check.finding import size
from mlxserve.launch.output import say
from mlxserve.models.source import find_model
from mlxserve.models.weight_header import WeightHeader


def run(model: str) -> int:
    """Download or convert what is missing, with bars, then say where it is; returns the exit code. Raises UserError."""
    display = display_for(told=False, log_format="text")

    def report(line: str) -> None:
        if not display.show(model, line):
            say(line)

    try:
        source = find_model(model, report)
        source.fetch(lambda tensor: True, report)
    finally:
        display.clear()
    weights = sum(WeightHeader.read(source.folder / file).file_size for file in source.weight_files)
    print(f"{model}: {size(weights)} of weights in {source.folder}")
    return 0
