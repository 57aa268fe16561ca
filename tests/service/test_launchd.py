"""The property list, by the rules of launchd.plist(5)."""

from __future__ import annotations

import os
import plistlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxserve.service.job import Job
from mlxserve.service.launchd import Launchd, status_from

TYPES: dict[str, type] = {
    "Label": str,
    "ProgramArguments": list,
    "UserName": str,
    "WorkingDirectory": str,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": bool,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "StandardOutPath": str,
    "StandardErrorPath": str,
}
PRINTED = """\
system/local.mlxserve = {
\tactive count = 1
\tpath = /Library/LaunchDaemons/local.mlxserve.plist
\ttype = LaunchDaemon
\tstate = running

\tprogram = /Users/anna/mlxserve
\tenvironment = {
\t\tXPC_SERVICE_NAME => local.mlxserve
\t}
\truns = 3
\tpid = 4711
\tlast exit code = 4

\tsemaphores = {
\t\tstate = not this one
\t}
}
"""
LAUNCHCTL = """\
#!/bin/bash
echo "$*" >> calls
case $1 in
bootstrap) touch loaded ;;
bootout) rm -f loaded ;;
print) [ -e loaded ] && cat printed ;;
esac
"""


@pytest.fixture
def launchd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launchd:
    """launchd, its launchctl replaced by a script that notes how it is called: there is none on Linux."""
    launchctl = tmp_path / "launchctl"
    launchctl.write_text(LAUNCHCTL)
    launchctl.chmod(0o755)
    (tmp_path / "printed").write_text(PRINTED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Launchd(tmp_path)


@pytest.fixture
def own(job: Job, tmp_path: Path) -> Job:
    """A job of the user who runs the test."""
    return msgspec.structs.replace(job, uid=os.getuid(), gid=os.getgid(), home=str(tmp_path / "home"))


@pytest.fixture
def plist(job: Job) -> dict[str, Any]:
    content = Launchd().content(job)
    assert content.startswith(b"<?xml")
    return dict(plistlib.loads(content, fmt=plistlib.FMT_XML))


def test_every_key_is_one_of_launchds_and_has_its_type(plist: dict[str, Any]) -> None:
    assert {key: type(value) for key, value in plist.items()} == TYPES


def test_the_command_its_folder_and_its_environment_come_through_word_by_word(job: Job, plist: dict[str, Any]) -> None:
    assert plist["ProgramArguments"] == list(job.command)
    assert plist["WorkingDirectory"] == job.folder
    assert plist["EnvironmentVariables"] == job.environment


def test_paths_are_absolute(plist: dict[str, Any]) -> None:
    paths = [plist["ProgramArguments"][0], plist["WorkingDirectory"], plist["StandardOutPath"]]
    assert all(Path(path).is_absolute() for path in paths)


def test_it_runs_as_the_user_from_the_start_of_the_machine_and_whatever_happens(plist: dict[str, Any]) -> None:
    assert plist["UserName"] == "daemon"
    assert (plist["RunAtLoad"], plist["KeepAlive"]) == (True, True)
    assert plist["ProcessType"] == "Interactive"


def test_the_file_is_named_by_its_label_among_the_daemons(job: Job, plist: dict[str, Any]) -> None:
    assert plist["Label"] == "local.mlxserve-test"
    assert str(Launchd().file(job.name)) == "/Library/LaunchDaemons/local.mlxserve-test.plist"


def test_it_is_killed_only_after_the_time_that_its_answers_have(job: Job) -> None:
    content = Launchd().content(msgspec.structs.replace(job, drain_seconds=300.0))
    assert plistlib.loads(content)["ExitTimeOut"] == 315


def test_status_reads_what_launchctl_prints() -> None:
    status = status_from(PRINTED)
    assert status.is_running
    assert status.sentence == "running, process 4711, started again 2 times"


def test_status_tells_how_a_daemon_ended() -> None:
    status = status_from(PRINTED.replace("= running", "= spawn scheduled").replace("\tpid = 4711\n", ""))
    assert not status.is_running
    assert status.sentence == "spawn scheduled: last ended with exit code 4"


def test_a_daemon_that_is_installed_again_is_stopped_first(launchd: Launchd, own: Job, tmp_path: Path) -> None:
    (tmp_path / "loaded").touch()
    launchd.file(own.name).write_bytes(launchd.content(own))
    launchd.start(own)
    calls = (tmp_path / "calls").read_text().splitlines()
    target = "system/local.mlxserve-test"
    file = str(tmp_path / "local.mlxserve-test.plist")
    assert calls == [f"bootout {target}", f"print {target}", f"enable {target}", f"bootstrap system {file}"]
    assert launchd.status(own.name).is_running


def test_the_log_is_in_the_users_library_and_its_folder_is_made(launchd: Launchd, own: Job) -> None:
    launchd.file(own.name).write_bytes(launchd.content(own))
    launchd.start(own)
    log = Path(launchd.log(own.name))
    assert log == Path(own.home) / "Library" / "Logs" / "mlxserve" / "mlxserve-test.log"
    assert log.parent.is_dir()


def test_a_daemon_that_was_stopped_does_not_count_as_running(launchd: Launchd, own: Job) -> None:
    launchd.file(own.name).write_bytes(launchd.content(own))
    launchd.start(own)
    launchd.stop(own.name)
    status = launchd.status(own.name)
    assert not status.is_running
    assert "not loaded: `sudo launchctl bootstrap system " in status.sentence
