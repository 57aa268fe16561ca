"""`mlxserve hosts`: Macs of which the tests play the tools, and Linux hosts in network namespaces that are real."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxserve.launch import hostfile
from mlxserve.launch.hostfile import Host, Hostfile
from mlxserve.launch.interfaces import sections
from tests.launch.conftest import StandIn
from tests.launch.test_interfaces import IFCONFIG, PORTS
from tests.launch.test_thunderbolt import TRIANGLE, mac
from tests.system.hosts import Bed

Macs = Callable[..., None]
PING = 'ping: [ "$2" = -c ] && echo "64 bytes from ${!#}: icmp_seq=0 ttl=64 time=0.412 ms"'


@pytest.fixture
def macs(stand_in: StandIn, hosts: Path) -> Macs:
    """Make a Mac of each name: the addresses end in its number, all answer, and `changes` are made to its ifconfig."""

    def make(*names: str, **changes: str) -> None:
        for number, name in enumerate(names, 1):
            told = IFCONFIG.replace("168.5.1 ", f"168.5.{number} ").replace("168.1.", f"168.{10 + number}.")
            for old, new in changes.items():
                told = told.replace(old, new.format(number))
            stand_in(name, 'uname: [ "$1" = -s ] && echo Darwin')
            stand_in(name, f"ifconfig: cat <<'END'\n{told}END")
            stand_in(name, f"networksetup: cat <<'END'\n{PORTS}END")
            stand_in(name, PING)

    return make


def write(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlxserve", "hosts", *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)


def test_two_macs_meet_on_the_thunderbolt_bridge(macs: Macs, tmp_path: Path) -> None:
    macs("mini-1", "mini-2")
    done = write("mini-1", "mini-2")
    assert done.returncode == 0, done.stderr
    found = "mlxserve: mini-1 192.168.5.1 — mini-2 192.168.5.2 over Thunderbolt Bridge, 0.4 ms\n"
    assert done.stderr == found
    (tmp_path / "hosts.json").write_text(done.stdout)
    minis = (Host("mini-1", ("192.168.5.1",)), Host("mini-2", ("192.168.5.2",)))
    assert hostfile.read(str(tmp_path / "hosts.json")) == Hostfile(minis, "ring")
    assert '\n    {"ssh": "mini-1", "ips": ["192.168.5.1"], "rdma": []},\n' in done.stdout


def test_a_file_is_written_once_and_again_by_force(macs: Macs, tmp_path: Path) -> None:
    macs("mini-1", "mini-2")
    file = tmp_path / "hosts.json"
    done = write("mini-1", "mini-2", "--output", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert f"mlxserve: wrote {file}; next: mlxserve check --hostfile {file}\n" in done.stderr
    file.write_text("mine")
    done = write("mini-1", "mini-2", "--output", str(file))
    assert done.returncode == 2
    assert done.stderr == f"mlxserve: error: {file} exists: name another file, or overwrite it with --force\n"
    assert file.read_text() == "mine"
    assert write("mini-2", "mini-1", "--output", str(file), "--force").returncode == 0
    assert [host["ssh"] for host in json.loads(file.read_text())["hosts"]] == ["mini-2", "mini-1"]


def test_an_address_that_changes_by_itself_is_taken_with_a_warning(macs: Macs) -> None:
    macs("mini-1", "mini-2", **{"inet 192.168.5.1 netmask 0xfffffffc": "inet 169.254.7.{} netmask 0xffff0000"})
    macs("mini-2", **{"inet 192.168.5.1 netmask 0xfffffffc": "inet 169.254.8.9 netmask 0xffff0000"})
    done = write("mini-1", "mini-2")
    assert done.returncode == 0, done.stderr
    assert '"ips": ["169.254.7.1"]' in done.stdout
    assert (
        "warning: 169.254.8.9/16 (bridge0, Thunderbolt Bridge) of mini-2 changes by itself: set a fixed" in done.stderr
    )


def test_an_address_given_to_both_macs_is_told_and_not_used(macs: Macs) -> None:
    macs("mini-1", "mini-2", **{"168.5.2 ": "168.5.1 ", "netmask 0xffffff00": "netmask 0xffff0000"})
    done = write("mini-1", "mini-2")
    assert done.returncode == 0, done.stderr
    assert (
        "warning: 192.168.5.1 is not used, because mini-1 and mini-2 have it: give all but one another" in done.stderr
    )
    listed = [host["ips"] for host in json.loads(done.stdout)["hosts"]]
    assert listed == [["192.168.11.23"], ["192.168.12.23"]]


@pytest.mark.parametrize("backend", ["jaccl", "jaccl-ring"])
def test_rdma_devices_are_those_that_mlx_finds(
    macs: Macs, stand_in: StandIn, tmp_path: Path, hosts: Path, backend: str
) -> None:
    macs("a", "b", "c", **{"192.168.5.1 netmask 0xfffffffc": "192.168.5.{} netmask 0xffffff00"})
    for name in "abc":
        told = sections(mac(name, TRIANGLE))
        stand_in(name, f"system_profiler: cat <<'END'\n{told['thunderbolt']}END")
        stand_in(name, f"networksetup: cat <<'END'\n{PORTS}{told['ports']}END")
        stand_in(name, f"ibv_devices: cat <<'END'\n{told['rdma']}END")
        stand_in(name, "ipconfig: echo 10.0.0.1")
    done = write("a", "b", "c", "--backend", backend)
    assert done.returncode == 0, done.stderr
    peer = "from mlx._distributed_utils.config import main; main()"
    words = ["--hosts", "a,b,c", "--backend", backend, "--output-hostfile", str(tmp_path / "peer.json")]
    with subprocess.Popen(["yes", ""], stdout=subprocess.PIPE) as enter:
        subprocess.run([sys.executable, "-c", peer, *words], stdin=enter.stdout, check=True, capture_output=True)
        enter.kill()
    ours, theirs = json.loads(done.stdout), json.loads((tmp_path / "peer.json").read_text())
    assert ours["backend"] == theirs["backend"] == backend
    assert [(host["ssh"], host["rdma"]) for host in ours["hosts"]] == [
        (host["ssh"], host["rdma"]) for host in theirs["hosts"]
    ]
    assert [host["ips"] for host in ours["hosts"]] == [["192.168.5.1"], ["192.168.5.2"], ["192.168.5.3"]]
    (tmp_path / "hosts.json").write_text(done.stdout)
    assert hostfile.read(str(tmp_path / "hosts.json")).hosts[0].rdma == (None, "rdma_en2", "rdma_en3")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["mini-1"], "name two hosts or more: a machine alone needs no hosts file"),
        (["mini-1", "mini-1"], "mini-1 is named 2 times, but each machine runs one rank"),
        (["mini-1", "mini-2", "--output", "/nowhere/hosts.json"], "cannot write /nowhere/hosts.json: No such file"),
        (["mini-1", "mini-2", "--backend", "mpi"], "argument --backend: invalid choice: 'mpi'"),
        (["mini-1", "mini-2", "--backend", "jaccl"], "mini-1 does not tell its Thunderbolt ports (system_profiler"),
    ],
)
def test_a_mistake_is_one_sentence(macs: Macs, words: list[str], sentence: str) -> None:
    macs("mini-1", "mini-2")
    done = write(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"mlxserve: error: {sentence}" in done.stderr


def test_all_hosts_that_cannot_be_asked_are_told(macs: Macs, hosts: Path) -> None:
    macs("mini-1", "mini-2", "mini-3")
    ssh = hosts.parent / "bin" / "ssh"
    lost = "if host != 'mini-2':\n    print('ssh: No route to host', file=sys.stderr)\n    sys.exit(255)\n"
    ssh.write_text(ssh.read_text().replace("home =", f"{lost}home =", 1))
    done = write("mini-1", "mini-2", "mini-3")
    assert done.returncode == 2
    head, first, third = done.stderr.splitlines()
    assert head == "mlxserve: error: not all hosts can be asked:"
    assert first.startswith("  mini-1 was not reached (ssh: No route to host): does `ssh mini-1 true` work without")
    assert first.endswith("If it is this machine, name it 127.0.0.1")
    assert third.startswith("  mini-3 was not reached")
    assert "127.0.0.1" not in third


def test_a_host_that_tells_nothing_is_named(macs: Macs, stand_in: StandIn) -> None:
    macs("mini-1", "mini-2")
    stand_in("mini-2", "uname: echo Linux")
    stand_in("mini-2", "ip: echo 'Option \"-j\" is unknown' >&2; exit 255")
    done = write("mini-1", "mini-2")
    assert done.returncode == 2
    assert 'mini-2 does not tell its addresses: Option "-j" is unknown' in done.stderr


def test_what_shells_print_at_their_start_is_passed_over(macs: Macs, hosts: Path) -> None:
    macs("mini-1", "mini-2")
    ssh = hosts.parent / "bin" / "ssh"
    ssh.write_text(
        ssh.read_text().replace('" ".join', "'echo hello; echo hello there world; printf hi; ' + \" \".join")
    )
    done = write("mini-1", "mini-2")
    assert done.returncode == 0, done.stderr
    assert [host["ips"] for host in json.loads(done.stdout)["hosts"]] == [["192.168.5.1"], ["192.168.5.2"]]


def test_ctrl_c_does_not_wait_for_a_name_server(macs: Macs) -> None:
    macs("mini-1", "mini-2")
    slow = (
        "import os, socket, time; from mlxserve.__main__ import main\n"
        "socket.getaddrinfo = lambda *_, **__: (os.write(1, b'asked\\n'), time.sleep(60))\n"  # two threads may at once
        "main()"
    )
    command = [sys.executable, "-c", slow, "hosts", "mini-1", "mini-2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert process.communicate()[1] == ""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Three hosts, each cabled to each by Ethernet; two of them by Thunderbolt as well."""
    with Bed(tmp_path_factory.mktemp("bed")) as bed:
        bed.add("mini-1", python=True)
        bed.add("mini-2", "mini-3")
        bed.join("mini-1", "mini-2", "192.168.8.0/30", "lan0")
        bed.join("mini-1", "mini-2", "192.168.5.0/30", "thunderbolt0")
        bed.join("mini-1", "mini-3", "192.168.9.0/30", "lan1")
        bed.join("mini-2", "mini-3", "192.168.10.0/30", "lan2")
        yield bed


def found(bed: Bed, *names: str) -> tuple[list[str], str]:
    """The addresses that `mlxserve hosts` lists on mini-1, and what it says."""
    done = bed["mini-1"].run([sys.executable, "-m", "mlxserve", "hosts", *names])
    listed = json.loads(done.stdout)["hosts"] if done.returncode == 0 else []
    return [ip for host in listed for ip in host["ips"]], done.stderr


def test_hosts_without_python_are_asked_and_links_tried(bed: Bed) -> None:
    addresses, told = found(bed, "mini-1", "mini-2")
    assert addresses == ["192.168.5.1", "192.168.5.2"], told
    assert "over Thunderbolt, " in told


def test_this_machine_is_known_by_another_name_too(bed: Bed) -> None:
    """It is not asked by ssh, which would not get there."""
    (bed["mini-1"].home / ".ssh" / "config").write_text("Host first\n  HostName 192.168.8.1\n  Port 9\n")
    addresses, told = found(bed, "first", "mini-2")
    assert addresses == ["192.168.5.1", "192.168.5.2"], told


def test_a_dead_cable_is_passed_over_with_a_word(bed: Bed) -> None:
    bed["mini-2"].run(["ip", "route", "add", "blackhole", "192.168.5.1"], check=True)
    addresses, told = found(bed, "mini-1", "mini-2")
    bed["mini-2"].run(["ip", "route", "del", "blackhole", "192.168.5.1"], check=True)
    assert addresses == ["192.168.8.1", "192.168.8.2"], told
    assert "warning: mini-1 192.168.5.1 — mini-2 192.168.5.2 over Thunderbolt do not answer each other" in told


def test_a_ring_of_cables_needs_a_way_from_all_to_rank_0(bed: Bed) -> None:
    _, told = found(bed, "mini-1", "mini-2", "mini-3")
    assert "no address of mini-1 is reached by mini-2 and mini-3 alike" in told
    bed["mini-2"].run(["ip", "route", "add", "192.168.9.1", "via", "192.168.8.1"], check=True)
    addresses, told = found(bed, "mini-1", "mini-2", "mini-3")
    assert addresses == ["192.168.9.1", "192.168.5.2", "192.168.10.2"], told
