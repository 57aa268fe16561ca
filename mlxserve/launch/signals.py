"""The signals that end a command, and work that they end in good order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Result = TypeVar("Result")


def run_unless_signalled(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` in an event loop of its own; a signal cancels it. Raises KeyboardInterrupt then."""
    return asyncio.run(_unless_signalled(work))


async def _unless_signalled(work: Coroutine[Any, Any, Result]) -> Result:
    task = asyncio.create_task(work)
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
