"""`mlxserve models`: what is on this machine, on the hosts of a hosts file, or loaded by the ranks of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mlxserve.launch.check.finding import size
from mlxserve.library.far import Listing, models_of_hosts
from mlxserve.library.flags import ModelsRequest
from mlxserve.library.listing import Entry, models_here
from mlxserve.remote import Remote
from mlxserve.top.state import Rank, traffic

_PATIENCE = 10.0
"""Seconds without an answer."""
_KINDS = {"hub": "from the hub", "converted": "converted from GGUF", "kept": "kept of what rank 0 gave"}


def run(request: ModelsRequest) -> int:
    """List; returns the exit code. Raises UserError."""
    if request.url:
        _of_server(request)
    elif request.hostfile:
        _of_hosts(request)
    else:
        _of_this_machine(request)
    return 0


def _of_this_machine(request: ModelsRequest) -> None:
    entries = models_here(request.folders)
    if request.json:
        _print_json(Listing(entries))
    else:
        _print_rows([_row(entry) for entry in entries] or [["no models here"]])


def _of_hosts(request: ModelsRequest) -> None:
    hosts = models_of_hosts(request)
    if request.json:
        _print_json({"hosts": hosts})
        return
    _print_rows(
        [
            [f"rank {rank}", host, *row]
            for rank, (host, entries) in enumerate(hosts.items())
            for row in [_row(entry) for entry in entries] or [["no models here"]]
        ]
    )


def _of_server(request: ModelsRequest) -> None:
    remote = Remote(request.url, request.api_key, _PATIENCE)
    ranks = traffic(remote).ranks
    names = remote.models()
    if request.json:
        _print_json({"models": names, "ranks": ranks})
        return
    print(f"{', '.join(names) or 'no model'} at {remote.url}")
    _print_rows([_rank_row(rank) for rank in ranks])


def _row(entry: Entry) -> list[str]:
    lacks = f", {entry.missing} file{'s' * (entry.missing > 1)} missing" if entry.missing else ""
    return [entry.name, size(entry.weight_bytes) + lacks, _KINDS.get(entry.kind, ""), entry.place]


def _rank_row(rank: Rank) -> list[str]:
    layers = f"layers {rank.layers[0]} to {rank.layers[1]}" if rank.layers else rank.progress or "nothing yet"
    return [f"rank {rank.rank}", rank.host, layers, f"{size(rank.memory.weights)} of weights"]


def _print_rows(rows: Sequence[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def _print_json(content: Any) -> None:
    print(msgspec.json.encode(content).decode())
