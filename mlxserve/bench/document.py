"""Everything measured, as JSON."""

from __future__ import annotations

import platform
import time
from typing import Any

import msgspec

from mlxserve import __version__
from mlxserve.bench.figures import Figures
from mlxserve.bench.sweep import Measured

SCHEMA = 1
"""Counts up when a field changes its meaning or goes."""


def document(measured: list[Measured], urls: list[str], models: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Of each server a result a point: the fields of Figures; of two servers the ratios too. Times are in seconds."""
    return {
        "schema": SCHEMA,
        "mlxserve": __version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "client": {"system": platform.platform(), "python": platform.python_version()},
        "settings": settings,
        "servers": [{"url": url, "model": model} for url, model in zip(urls, models, strict=True)],
        "results": [_result(each) for each in measured],
    }


def _result(measured: Measured) -> dict[str, Any]:
    result: dict[str, Any] = {
        "workload": measured.point.workload.name,
        "streams": measured.point.streams,
        "servers": [_of_server(each) for each in measured.figures],
    }
    return result | ({"ratios": measured.ratios} if measured.ratios else {})


def _of_server(figures: Figures) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(figures)
    del told["workload"], told["streams"]
    medians = {
        "tokens_per_second": figures.tokens_per_second,
        "decode_per_second": figures.decode_per_second,
    }
    return medians | told
