"""Ranks of one group, each started by hand with a node of its own, that are killed and started again."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.ports import free_port
from tests.system.server import BareRank, write_hostfile

ENGINE_SECONDS = 60.0


class Ranks(list[BareRank]):
    """Those that run now, by their numbers."""

    def __init__(self, folder: Path, number: int, *flags: str) -> None:
        """Start `number` ranks of the demo model; `folder` takes their hosts file."""
        self._flags = flags
        self._hostfile, self._port = write_hostfile(folder, number), free_port()
        ring = [int(address.rpartition(":")[2]) for (address,) in json.loads(self._hostfile.read_text())]
        self.ports = [self._port, *ring]
        self.started: list[BareRank] = []
        """Those too that were killed since."""
        super().__init__(self._start(rank) for rank in range(number))

    def replace(self, rank: int) -> None:
        """Kill a node, and start another in its place."""
        self[rank].process.kill()
        self[rank] = self._start(rank)

    def engine(self, rank: int) -> int:
        """The process of a rank's engine, waited for."""
        deadline = time.monotonic() + ENGINE_SECONDS
        while len(engines := self[rank].pids_of("engine")) != 1:
            assert time.monotonic() < deadline, self[rank].output
            time.sleep(0.02)
        return engines[0]

    def close(self) -> None:
        """Kill whatever is left of any."""
        for rank in self.started:
            rank.close()

    def _start(self, rank: int) -> BareRank:
        self.started.append(BareRank(rank, self._hostfile, self._port, *self._flags))
        return self.started[-1]
