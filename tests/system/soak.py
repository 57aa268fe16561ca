"""`python -m tests.system.soak --minutes 30`: a mixed load on a server of two ranks, and what grows under it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass

from tests.system.figures import ArrayGrowth, Growth, Sampler
from tests.system.mixed_load import MixedLoad
from tests.system.server import start

LITTLE_MEMORY = ("--kv-cache-bytes", "80MB", "--prefix-cache-bytes", "30MB")
"""What is kept on purpose is full soon: what grows after that is lost."""
SAMPLES = 60
"""At least; one every few seconds."""
MOST_SECONDS = 5.0
SHOWN = 20


@dataclass(frozen=True)
class Report:
    """How it went."""

    load: MixedLoad
    growth: list[Growth | ArrayGrowth]
    health: str

    @property
    def problems(self) -> list[str]:
        """Whatever is not as it should be."""
        grown = [one.problem for one in self.growth if one.problem]
        unwell = [] if self.health == "healthy" else [f"at the end the server is {self.health or 'gone'}"]
        return [*self.load.errors, *grown, *unwell]

    def __str__(self) -> str:
        done = ", ".join(f"{count} {kind}" for kind, count in self.load.done.most_common())
        problems = [f"  {problem}" for problem in self.problems[:SHOWN]]
        return "\n".join(
            [
                f"{self.load.done.total()} requests: {done}",
                "from the end of the first quarter to the end:",
                *(f"  {one}" for one in self.growth),
                f"{len(self.problems)} problems",
                *problems,
            ]
        )


def soak(minutes: float, seed: int = 0) -> Report:
    """Start a server, ask it for so long, and look at its processes meanwhile."""
    server = start(2, *LITTLE_MEMORY)
    try:
        server.wait_until("healthy")
        load = MixedLoad(server, seed)
        with Sampler(server, min(MOST_SECONDS, 60 * minutes / SAMPLES)) as sampler:
            asyncio.run(load.run(60 * minutes))
        growth, health = sampler.growth(), server.health().get("status", "")
        if health != "healthy":
            print(server.output[-10_000:])
    finally:
        server.close()
    load.explain()
    return Report(load, growth, health)


def main() -> int:
    """The exit code: 1 where there is a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="of what is asked")
    words = parser.parse_args()
    report = soak(words.minutes, words.seed)
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
