"""Several answers under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def merged(sources: list[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T | None], None]:
    """What `sources` yield as it comes, each item with its source's number; None at a source's end.

    Closing the iterator closes the sources. What one of them raises is raised.
    """
    if len(sources) == 1:
        async with aclosing(sources[0]) as source:
            async for item in source:
                yield 0, item
        yield 0, None
        return
    arrived: asyncio.Queue[tuple[int, T | Exception | None]] = asyncio.Queue()
    pouring = [asyncio.create_task(_pour(number, source, arrived)) for number, source in enumerate(sources)]
    try:
        left = len(sources)
        while left:
            number, found = await arrived.get()
            if isinstance(found, Exception):
                raise found
            left -= found is None
            yield number, found
    finally:
        for task in pouring:
            task.cancel()
        await asyncio.gather(*pouring, return_exceptions=True)


async def _pour(
    number: int, source: AsyncGenerator[T, None], arrived: asyncio.Queue[tuple[int, T | Exception | None]]
) -> None:
    try:
        async with aclosing(source) as items:
            async for item in items:
                arrived.put_nowait((number, item))
        arrived.put_nowait((number, None))
    except Exception as error:
        arrived.put_nowait((number, error))
