"""The node that `tests.bench.front` measures: all of rank 0's but its engine process, in whose place the load speaks.

Run as `python -m tests.bench.front_node PORT DESCRIPTOR`, the descriptor being the node's end of an engine's pipe. For
each line of standard input it prints the seconds of CPU time that it has used.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time

import uvloop

from mlxserve.__main__ import YOUNG_OBJECTS
from mlxserve.config import Settings
from mlxserve.engine.child import EngineChild
from mlxserve.engine.client import EngineClient
from mlxserve.front import Front


async def main(port: int, descriptor: int) -> None:
    gc.set_threshold(YOUNG_OBJECTS)
    client = EngineClient()
    front = Front(client, Settings(model="demo", port=port))
    await front.start(lambda error: sys.exit(str(error)))
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    child = EngineChild(None, reader, writer)
    client.connected(child.send)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _tell_seconds)
    while event := await child.receive():
        client.receive(event)
    await front.stop()


def _tell_seconds() -> None:
    if sys.stdin.readline():
        print(time.process_time(), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
