"""Programs that tests run on every rank of a real group, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from mlxserve.config import Place
from mlxserve.engine.environment import engine_environment
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


def run_on_ranks(program: str, world_size: int, *arguments: str, timeout: float) -> list[dict[str, Any]]:
    """Run the module `program` as every rank of a ring; returns what rank 0 printed, a JSON object a line.

    Raises AssertionError with the output of the rank that failed.
    """
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(world_size))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as hostfile:
        json.dump([[address] for address in addresses], hostfile)
        hostfile.flush()
        ranks = []
        for rank in range(world_size):
            environment = engine_environment(os.environ, Place(rank, world_size, "ring", addresses))
            environment |= {"MLX_RANK": str(rank), "MLX_HOSTFILE": hostfile.name}
            command = [sys.executable, "-m", program, *arguments]
            ranks.append(
                subprocess.Popen(
                    command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
        outputs = _communicate(ranks, timeout)
    return [json.loads(line) for line in outputs[0].splitlines()]


def _communicate(ranks: list[subprocess.Popen[str]], timeout: float) -> list[str]:
    """What each rank printed; when one fails the others, which would wait for it, are killed."""

    def finish(rank: subprocess.Popen[str]) -> str:
        output, errors = rank.communicate(timeout=timeout)
        assert rank.returncode == 0, f"rank {ranks.index(rank)} of {len(ranks)} failed:\n{errors[-3000:]}"
        return output

    with ThreadPoolExecutor(len(ranks)) as pool:
        finishing = [pool.submit(finish, rank) for rank in ranks]
        try:
            for done in as_completed(finishing):
                done.result()
        finally:
            for rank in ranks:
                rank.kill()
    return [done.result() for done in finishing]


def place_of_this_rank() -> Place:
    """Where this process, started by `run_on_ranks`, stands."""
    addresses = tuple(rank[0] for rank in json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text()))
    return Place(int(os.environ["MLX_RANK"]), len(addresses), "ring", addresses)
