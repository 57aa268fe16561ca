"""`mlxserve check --hostfile` on hosts with an sshd each: what is wrong with one is found and named before a start."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.hosts import HOME, REPOSITORY, Bed, Host

MLXSERVE = f"{HOME}/bin/mlxserve"
PROGRAM = f"""\
#!{sys.executable}
import os, sys
sys.path.insert(0, "{HOME}/source")
os.environ["PYTHONPATH"] = "{HOME}/source"
from mlxserve.__main__ import main
main()
"""
LISTEN = "import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); print(flush=True); s.accept()"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Two minis with a copy of mlxserve each, joined by the cable of the hosts file and by another, for ssh."""
    with Bed(tmp_path_factory.mktemp("bed")) as bed:
        bed.add("mini-1", "mini-2", python=True)
        bed.join("mini-1", "mini-2", "192.168.5.0/30", "thunderbolt0")
        bed.join("mini-1", "mini-2", "192.168.7.0/30", "lan0")
        package = REPOSITORY / "mlxserve"
        for host in bed.hosts.values():
            package = Path(shutil.copytree(package, host.home / "source/mlxserve"))
            script(host, "bin/mlxserve", PROGRAM)
        yield bed


@pytest.fixture
def minis(bed: Bed) -> Iterator[Bed]:
    """The two minis with nothing wrong, and nothing left running on them afterwards."""
    write_hosts(bed)
    ssh_config(bed, "HostName 192.168.7.2")
    yield bed
    for host in bed.hosts.values():
        host.wait_until_idle()


def script(host: Host, name: str, content: str) -> None:
    path = host.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)


def write_hosts(bed: Bed, second_ip: str = "192.168.5.2", second_name: str = "mini-2") -> None:
    hosts = [{"ssh": "mini-1", "ips": ["192.168.5.1"]}, {"ssh": second_name, "ips": [second_ip]}]
    (bed["mini-1"].home / "hosts.json").write_text(json.dumps(hosts))


def ssh_config(bed: Bed, *lines: str) -> None:
    (bed["mini-1"].home / ".ssh/config").write_text("\n".join(["Host mini-2", *lines, ""]))


def checked(bed: Bed, *words: str) -> tuple[int, list[dict[str, str]], dict[str, Any] | None]:
    """The exit code, the findings and the group, from `check --json` on mini-1."""
    done = bed["mini-1"].run([MLXSERVE, "check", "--hostfile", "hosts.json", "--json", *words])
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    return done.returncode, report["findings"], report["group"]


def errors_of(bed: Bed, *words: str) -> list[dict[str, str]]:
    """The findings that keep the group from being formed."""
    code, findings, group = checked(bed, *words)
    assert code == 1
    assert group is None
    return [finding for finding in findings if finding["level"] == "error"]


def the_error(bed: Bed, *words: str) -> dict[str, str]:
    (error,) = errors_of(bed, *words)
    assert error["advice"]
    return error


@contextlib.contextmanager
def listening(host: Host, ip: str, port: int) -> Iterator[None]:
    with host.popen([sys.executable, "-c", LISTEN, ip, str(port)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        try:
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def routed(host: Host, *route: str) -> Iterator[None]:
    host.run(["ip", "route", "add", *route], check=True)
    try:
        yield
    finally:
        host.run(["ip", "route", "del", *route], check=True)


def model_folder(host: Host, config: str = "{}") -> None:
    folder = host.home / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"weights")


def test_warnings_are_shown_and_the_group_forms_on_the_ports_just_looked_at(minis: Bed) -> None:
    second = minis["mini-2"]
    bashrc, cache = second.home / ".bashrc", f"{HOME}/.cache"
    bashrc.write_text("export MLX_METAL_FAST_SYNCH=1\necho welcome to mini-2\n")
    second.run(["mkdir", "-p", cache], check=True)
    second.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", cache], check=True)
    try:
        code, findings, group = checked(minis)
    finally:
        bashrc.unlink()
        second.run(["umount", cache], check=True)
    assert code == 0
    assert {finding["level"] for finding in findings} == {"ok", "warning"}
    warnings = {finding["subject"]: finding for finding in findings if finding["level"] == "warning"}
    assert {finding["host"] for finding in warnings.values()} == {"mini-2"}
    assert "which deadlocks Macs" in warnings["environment"]["message"]
    assert "67.1 MB free for" in warnings["disk"]["message"]
    assert set(warnings) == {"environment", "disk"}
    assert group is not None
    assert "ok  relay  exact to the bit on 2 ranks" in group["lines"]


def test_people_get_a_table_with_what_to_do(minis: Bed) -> None:
    write_hosts(minis, second_ip="192.168.5.9")
    done = minis["mini-1"].run([MLXSERVE, "check", "--hostfile", "hosts.json"])
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "ok    mini-1  address  192.168.5.1 (thunderbolt0)" in lines
    (at,) = (number for number, line in enumerate(lines) if line.startswith("FAIL  mini-2  address  192.168.5.9 is"))
    assert lines[at].endswith("it has 192.168.5.2 (thunderbolt0), 192.168.7.2 (lan0)")
    assert lines[at + 1].strip().startswith("→ mend its ips in the hosts file")
    assert "\033" not in done.stdout
    assert "mlxserve: error: 1 finding to mend before the group can be formed" in done.stderr


def test_who_reaches_whom_is_measured(minis: Bed) -> None:
    _, findings, _ = checked(minis, "--model", "nothing")
    found = [(finding["host"], *finding["message"].split()) for finding in findings if finding["subject"] == "reach"]
    assert [" ".join(words[:4]) for words in found[:2]] == [
        "mini-1 mini-2 at 192.168.5.2:32324",
        "mini-2 mini-1 at 192.168.5.1:32323",
    ]
    assert [words[4] for words in found] == ["(ring):", "(ring):", "(control):"]
    assert all(0 < float(words[5]) < 1000 and words[6] == "ms" for words in found)


def test_ssh_that_wants_a_password(minis: Bed) -> None:
    ssh_config(minis, "HostName 192.168.7.2", "IdentityFile /dev/null", "IdentitiesOnly yes")
    error = the_error(minis)
    assert (error["host"], error["subject"]) == ("mini-2", "ssh")
    assert "Permission denied (publickey" in error["message"]
    assert "ssh-copy-id mini-2" in error["advice"]


def test_ssh_that_is_refused(minis: Bed) -> None:
    ssh_config(minis, "HostName 192.168.7.2", "Port 2222")
    error = the_error(minis)
    assert "port 2222: Connection refused" in error["message"]
    assert "Remote Login" in error["advice"]


def test_a_host_that_nobody_knows(minis: Bed) -> None:
    write_hosts(minis, second_name="mini-9")
    error = the_error(minis)
    assert "Could not resolve hostname mini-9" in error["message"]
    assert "~/.ssh/config" in error["advice"]


def test_a_host_whose_key_is_not_known(minis: Bed) -> None:
    ssh_config(minis, "HostName 192.168.7.2", "UserKnownHostsFile /dev/null")
    assert "accept its key" in the_error(minis)["advice"]


def test_a_host_whose_cable_is_out(minis: Bed) -> None:
    minis.cut("mini-1", "mini-2")
    try:
        errors = errors_of(minis)
    finally:
        minis.mend("mini-1", "mini-2")
    assert [(error["host"], error["subject"]) for error in errors] == [("mini-2", "ssh")]
    assert "Network is unreachable" in errors[0]["message"]


def test_a_program_that_is_missing_on_one_host(minis: Bed) -> None:
    script(minis["mini-1"], "mlxserve", PROGRAM)
    error = the_error(minis, "--program", f"{HOME}/mlxserve")
    assert (error["host"], error["subject"], error["message"]) == ("mini-2", "program", "there is no ~/mlxserve")


@pytest.mark.parametrize("words", [[], ["--program", MLXSERVE]])
def test_another_build_on_one_host(minis: Bed, words: list[str]) -> None:
    source = minis["mini-2"].home / "source/mlxserve/place.py"
    content = source.read_text()
    source.write_text(content + "# newer\n")
    try:
        error = the_error(minis, *words)
    finally:
        source.write_text(content)
    assert (error["host"], error["subject"]) == ("mini-2", "program")
    assert error["message"].count("source-") == 2
    assert ("on mini-1" if words else "here") in error["message"]


def test_a_program_that_does_not_know_the_probe(minis: Bed) -> None:
    script(minis["mini-1"], "older", PROGRAM)
    script(minis["mini-2"], "older", '#!/bin/bash\nexec ls "$@"\n')
    error = the_error(minis, "--program", f"{HOME}/older")
    assert (error["host"], error["subject"]) == ("mini-2", "program")
    assert "cannot access 'probe'" in error["message"]


def test_ports_that_are_taken(minis: Bed) -> None:
    with listening(minis["mini-2"], "192.168.5.2", 32324), listening(minis["mini-1"], "127.0.0.1", 8100):
        first, second = errors_of(minis)
    assert (first["host"], first["message"]) == ("mini-1", "127.0.0.1:8100 is taken")
    assert "--port" in first["advice"]
    assert (second["host"], second["message"]) == ("mini-2", "192.168.5.2:32324 is taken")
    assert "--starting-port" in second["advice"]


def test_a_host_to_serve_on_that_is_not_its_own(minis: Bed) -> None:
    error = the_error(minis, "--host", "192.168.9.9")
    assert "cannot listen at 192.168.9.9:8100" in error["message"]
    assert "--host" in error["advice"]


def test_a_way_between_two_hosts_that_is_cut_on_one_side(minis: Bed) -> None:
    with routed(minis["mini-2"], "unreachable", "192.168.5.1/32"):
        dropped, unreachable, control = errors_of(minis)
    assert (dropped["host"], dropped["subject"]) == ("mini-1", "reach")
    assert dropped["message"].startswith("mini-2 at 192.168.5.2:32324 (ring): Connection timed out")
    assert "firewall on mini-2" in dropped["advice"]
    assert (unreachable["host"], unreachable["subject"]) == ("mini-2", "reach")
    assert unreachable["message"] == "mini-1 at 192.168.5.1:32323 (ring): No route to host (errno 113)"
    assert "cable" in unreachable["advice"]
    assert "(control)" in control["message"]


def test_a_model_that_is_missing_on_the_first_host(minis: Bed) -> None:
    model_folder(minis["mini-2"])
    shutil.rmtree(minis["mini-1"].home / "model", ignore_errors=True)
    error = the_error(minis, "--model", "model")
    assert (error["host"], error["subject"]) == ("mini-1", "model")
    assert "copy it there from mini-2" in error["advice"]


def test_models_that_differ(minis: Bed) -> None:
    model_folder(minis["mini-1"])
    model_folder(minis["mini-2"], '{"hidden_size": 64}')
    error = the_error(minis, "--model", "model")
    assert (error["host"], error["subject"]) == ("mini-2", "model")
    assert "is not that of mini-1" in error["message"]


@contextlib.contextmanager
def checking_a_hung_host(minis: Bed) -> Iterator[subprocess.Popen[str]]:
    """A check whose probe on mini-1 has answered, while mini-2 does not."""
    first, second = minis["mini-1"], minis["mini-2"]
    script(first, "hanging", PROGRAM)
    script(second, "hanging", "#!/bin/bash\nexec sleep 100\n")
    command = [MLXSERVE, "check", "--hostfile", "hosts.json", "--program", f"{HOME}/hanging"]
    with first.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 10
        while not (is_running(first, f"{HOME}/hanging probe") and is_running(second, "sleep")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
        process.kill()


def is_running(host: Host, word: str) -> bool:
    return any(word in line for line in host.processes().values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_check_and_its_probes(minis: Bed, number: signal.Signals) -> None:
    with checking_a_hung_host(minis) as process:
        process.send_signal(number)
        assert process.wait(5) == 130
        assert "Traceback" not in process.communicate()[1]
        minis["mini-1"].wait_until_idle(1)
    end_hung(minis["mini-2"])


def test_a_killed_check_leaves_no_probe_behind(minis: Bed) -> None:
    with checking_a_hung_host(minis) as process:
        process.kill()
        deadline = time.monotonic() + 2
        while is_running(minis["mini-1"], f"{HOME}/hanging probe"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        end_hung(minis["mini-2"])


def end_hung(host: Host) -> None:
    host.run(["pkill", "sleep"])
