"""`mlxserve top`: shows, again and again."""

from __future__ import annotations

import signal
import time

from rich.console import Console, RenderableType
from rich.live import Live

from mlxserve.errors import UserError
from mlxserve.remote import Remote
from mlxserve.top.flags import TopRequest
from mlxserve.top.state import traffic
from mlxserve.top.view import lost, view

_PATIENCE = 10.0
"""Seconds without an answer."""


def run(request: TopRequest) -> int:
    """Show the cluster until Ctrl-C. Raises UserError where it cannot be asked at first."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    remote = Remote(request.url, request.api_key, _PATIENCE)
    console = Console()
    first = view(traffic(remote), remote.url, console.width)
    if request.once or not console.is_terminal:
        console.print(first)
        return 0
    try:
        with Live(first, console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(request.seconds)
                live.update(_now(remote, console.width), refresh=True)
    except KeyboardInterrupt:
        return 0


def _now(remote: Remote, width: int) -> RenderableType:
    """What there is to see; why there is nothing, where the server does not answer."""
    try:
        return view(traffic(remote), remote.url, width)
    except UserError as error:
        return lost(remote.url, str(error))
