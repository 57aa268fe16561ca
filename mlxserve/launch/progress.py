"""How far something is that happens on several hosts: one redrawn line, and a line for each host that is done."""

from __future__ import annotations

import sys

from mlxserve.launch.output import draw, say

CLEAR = "\r\033[K"


class Progress:
    """Shares of `total` by host. Where stderr is no terminal, only what is done is told."""

    def __init__(self, total: int) -> None:
        self._total = max(total, 1)
        self._shares: dict[str, int] = {}
        self._drawn = sys.stderr.isatty()

    def moved(self, host: str, amount: int) -> None:
        """Show that `host` has `amount` by now."""
        share = 100 * amount // self._total
        if share != self._shares.get(host):
            self._shares[host] = share
            self._draw()

    def done(self, host: str, sentence: str) -> None:
        """Tell how it ended for `host`, in a line that stays."""
        self.drop(host)
        say(f"{host}: {sentence}")
        self._draw()

    def drop(self, host: str) -> None:
        """Forget `host`, and take the redrawn line away until something else moves."""
        self._shares.pop(host, None)
        if self._drawn:
            draw(CLEAR)

    def _draw(self) -> None:
        if self._drawn and self._shares:
            shares = "  ".join(f"{host} {share} %" for host, share in self._shares.items())
            draw(f"{CLEAR}mlxserve: copying to {shares}")
