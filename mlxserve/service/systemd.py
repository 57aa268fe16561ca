"""A service under systemd, on Linux: the system's when root installs it, otherwise the user's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mlxserve.errors import UserError
from mlxserve.service.job import Job, with_sudo
from mlxserve.service.status import Status

BOOTED = Path("/run/systemd/system")
"""Is there where systemd started the machine (sd_booted(3))."""
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "%": "%%", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
SHOWN = ("LoadState", "ActiveState", "SubState", "MainPID", "ExecMainStatus", "ActiveEnterTimestamp", "NRestarts")

# Restart=always: a rank that ends because its machine shuts down ends the launch command with exit code 0.
# StartLimitIntervalSec=0: try for ever. ExecStart=: with a colon leaves dollar signs alone.
UNIT = """\
[Unit]
Description=mlxserve: an MLX language model for OpenAI clients
{after}StartLimitIntervalSec=0

[Service]
Type=exec
{user}WorkingDirectory={folder}
Environment={environment}
ExecStart=:{command}
Restart=always
RestartSec=10
KillMode=mixed
TimeoutStopSec={stop_seconds}
IgnoreSIGPIPE=no

[Install]
WantedBy={target}
"""
ONLINE = "Wants=network-online.target\nAfter=network-online.target\n"


class Systemd(msgspec.Struct, frozen=True):
    """systemd's manager of the system or, without `is_system`, of this user."""

    is_system: bool

    def file(self, name: str) -> Path:
        """Where the unit is."""
        if self.is_system:
            return Path(f"/etc/systemd/system/{name}.service")
        config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return Path(config, "systemd", "user", f"{name}.service")

    def content(self, job: Job) -> bytes:
        """The unit, as systemd.service(5) and systemd.syntax(7) have it. Raises UserError."""
        if not set(job.command[0]).isdisjoint("\\\"'"):
            raise UserError(f"systemd starts no program with a quote or backslash in its path: move {job.command[0]}")
        unit = UNIT.format(
            after=ONLINE if self.is_system else "",
            user=f"User={job.user}\n" if self.is_system else "",
            folder=os.path.join(job.folder, "").replace("%", "%%"),
            environment=" ".join(_quoted(f"{name}={value}") for name, value in job.environment.items()),
            command=" ".join(_quoted(word) for word in job.command),
            stop_seconds=job.stop_seconds,
            target="multi-user.target" if self.is_system else "default.target",
        )
        return unit.encode()

    def require(self) -> None:
        """Raise UserError where systemd does not run this machine, or this user may not change its manager."""
        if not BOOTED.exists():
            raise UserError("systemd does not run this machine: `mlxserve service install --print …` shows the unit")
        if self.is_system and os.geteuid() != 0:
            raise UserError(f"it is a service of the system: run `{with_sudo()}`")

    def start(self, job: Job) -> None:
        """Start what the written unit says, now and with the machine."""
        self._run("daemon-reload")
        self._run("enable", f"{job.name}.service")
        self._run("restart", f"{job.name}.service")

    def stop(self, name: str) -> None:
        """Stop it, now and for good."""
        self._run("disable", "--now", f"{name}.service")

    def forget(self) -> None:
        """Take note that the unit was deleted."""
        self._run("daemon-reload")

    def status(self, name: str) -> Status:
        """What it is doing."""
        shown = self._run("show", f"--property={','.join(SHOWN)}", f"{name}.service")
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        ended = f"last ended with exit code {found.get('ExecMainStatus', '?')}"
        match found.get("ActiveState", "unknown"), found.get("SubState", ""):
            case "active", "running":
                since = f"running since {found['ActiveEnterTimestamp']}, process {found['MainPID']}"
                return Status(True, f"{since}, started again {found.get('NRestarts', '0')} times")
            case _, detail if detail.startswith("auto-restart"):
                return Status(False, f"waiting to be started again: {ended}")
            case state, detail:
                return Status(False, f"{state} ({detail}): {ended}")

    def notes(self, job: Job) -> Iterator[str]:
        """What else to know of it."""
        if not self.is_system:
            yield f"it runs while {job.user} is logged in; `loginctl enable-linger` makes it start with the machine"

    def log(self, name: str) -> str:
        """How to read its log."""
        return f"journalctl {'-u' if self.is_system else '--user -u'} {name}"

    def _run(self, *words: str) -> str:
        command = ["systemctl", *([] if self.is_system else ["--user"]), *words]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise UserError("systemctl is not installed on this machine") from error
        if done.returncode != 0:
            raise UserError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
        return done.stdout


def _quoted(word: str) -> str:
    return f'"{word.translate(ESCAPES)}"'
