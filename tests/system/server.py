"""A running server, started as users start it, and everything that belongs to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import httpx
import openai

from tests.ports import free_port

BIN = Path(sys.executable).parent
MLXSERVE = str(BIN / "mlxserve")
MLX_LAUNCH = str(BIN / "mlx.launch")
TICKS = os.sysconf("SC_CLK_TCK")
_PLAIN = httpx.Client(verify=False, timeout=5, headers={"Connection": "close"})
"""Loads no certificates, which takes 20 ms of CPU time: as long as a server needs for a lot."""


class Server:
    """The processes of one command line; `mark` in their environment tells them from all others."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        environment: dict[str, str] | None = None,
        stdin: int | None = None,
        output: int | None = None,
    ) -> None:
        """`output`: where its processes print, if that is not to be kept here."""
        self.port = port
        self.mark = f"MLXSERVE_TEST={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            env=os.environ | {name: value} | (environment or {}),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=self._output if output is None else output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """All that its processes have printed."""
        self._output.flush()
        return Path(f"/proc/self/fd/{self._output.fileno()}").read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        """Every process that it started and that still runs."""
        mark = self.mark.encode()
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _has(mark, name)]

    def pids_of(self, *words: str) -> list[int]:
        """Those whose command line has all `words`."""
        lines = {pid: _command_line(pid) for pid in self.pids}
        return [pid for pid, line in lines.items() if all(word in line for word in words)]

    def health(self) -> dict[str, Any]:
        """What /health says; empty while nobody listens."""
        try:
            return dict(_PLAIN.get(f"{self.url}/health").json())
        except (httpx.HTTPError, json.JSONDecodeError):
            return {}

    def wait_until(self, status: str = "healthy", timeout: float = 90) -> dict[str, Any]:
        """Poll /health until it says `status`."""
        deadline = time.monotonic() + timeout
        while (health := self.health()).get("status") != status:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"not {status} after {timeout} s: {health}\n{self.output}"
            time.sleep(0.05)
        return health

    def wait_until_it_says(self, words: str, timeout: float = 60) -> None:
        """Wait until `words` are in its output."""
        deadline = time.monotonic() + timeout
        while words not in self.output:
            assert time.monotonic() < deadline, f"{words!r} not said after {timeout} s:\n{self.output}"
            time.sleep(0.05)

    def client(self) -> openai.OpenAI:
        plain = openai.DefaultHttpxClient(verify=False)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120, http_client=plain)

    def async_client(self) -> openai.AsyncOpenAI:
        plain = openai.DefaultAsyncHttpxClient(verify=False)
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=300, http_client=plain
        )

    def cpu_seconds(self) -> float:
        """CPU time that all its processes have used."""
        return sum(map(cpu_seconds_of, self.pids))

    def exit_code(self, timeout: float) -> int:
        """The exit code, waited for."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.output}") from None

    def wait_until_gone(self, timeout: float) -> None:
        """Wait until no process of it is left."""
        deadline = time.monotonic() + timeout
        while pids := self.pids:
            lines = {pid: _command_line(pid) for pid in pids}
            assert time.monotonic() < deadline, f"left running: {lines}\n{self.output}"
            time.sleep(0.02)

    def close(self) -> None:
        """Kill whatever is left."""
        kill_all(self.pids)
        self.process.wait()
        self._output.close()


def kill_all(pids: Iterable[int]) -> None:
    """Kill them; those that end as the others do are gone already."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _has(mark: bytes, pid: str) -> bool:
    """Whether it runs, with `mark` in its environment; asked of all processes again and again."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            found = mark in environment.read().split(b"\0")
        return found and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command_line(pid: int) -> list[str]:
    """Its words; none if it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def cpu_seconds_of(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def serve_command(ranks: int, port: int, *flags: str, model: str = "demo") -> list[str]:
    """How a user starts `ranks` ranks on this machine."""
    start = [MLXSERVE, "serve"] if ranks == 1 else [MLXSERVE, "launch", "-n", str(ranks)]
    return [*start, "--model", model, "--port", str(port), *flags]


def start(ranks: int, *flags: str, model: str = "demo") -> Server:
    """Start a server; not waited for."""
    port = free_port()
    return Server(serve_command(ranks, port, *flags, model=model), port)


class BareRank(Server):
    """One rank started by hand, with MLX's own variables."""

    def __init__(
        self,
        rank: int,
        hostfile: Path,
        port: int,
        *flags: str,
        model: str = "demo",
        package: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """`package` is the folder of another mlxserve package than the installed one."""
        program = [sys.executable, "-m", "mlxserve"] if package else [MLXSERVE]
        environment = {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hostfile), **(environment or {})}
        if package:
            environment |= {"PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1"}
        super().__init__([*program, "serve", "--model", model, "--port", str(port), *flags], port, environment)


def write_hostfile(folder: Path, ranks: int) -> Path:
    """A ring of `ranks` ranks on this machine, as MLX_HOSTFILE has it."""
    path = folder / "ring.json"
    path.write_text(json.dumps([[f"127.0.0.1:{free_port()}"] for _ in range(ranks)]))
    return path
