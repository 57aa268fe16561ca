"""On a terminal, how far each rank is with loading is drawn as bars, in one place."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable

from tests.ports import free_port
from tests.system.server import Server, serve_command

SOON = 90.0


class OnTerminal(Server):
    """Started by somebody who sits at a terminal."""

    def __init__(self, command: list[str], port: int) -> None:
        self._master, slave = pty.openpty()
        super().__init__(command, port, {"TERM": "xterm"}, output=slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self._seen = b""

    @property
    def output(self) -> str:
        """All that was shown."""
        try:
            while piece := os.read(self._master, 65_536):
                self._seen += piece
        except OSError:
            pass
        return self._seen.decode(errors="replace")

    def close(self) -> None:
        super().close()
        os.close(self._master)


def test_the_bars_of_both_ranks_stand_together_until_they_serve(own: Callable[[Server], Server]) -> None:
    port = free_port()
    server = own(OnTerminal(serve_command(2, port), port))
    deadline = time.monotonic() + SOON
    while "serving at" not in server.output:
        assert time.monotonic() < deadline, server.output
        time.sleep(0.05)
    for rank in (0, 1):
        assert f"rank {rank}  ━" in server.output
    assert "reading layers" in server.output
    assert "\x1e" not in server.output
    server.process.send_signal(signal.SIGTERM)
    assert server.exit_code(30) == 0
