"""From facts to findings: what Macs would tell, made by hand."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from mlxserve.launch.check.finding import Finding
from mlxserve.launch.check.judge import judge
from mlxserve.launch.check.messages import Disk, Facts, Failure, Missing, Model, Port, Question, Reach, System
from mlxserve.launch.check.table import write_table
from mlxserve.launch.check.visit import Target, Trouble, Visit
from mlxserve.launch.hostfile import Host

BUILD = "0123456789ab"
MAC = System("macOS", "26.2", "25C56", "arm64", "14.0")
MINI = Facts(BUILD, MAC, 16 * 10**9, 9 * 10**9, (Disk("/Users/me/Library/Caches/mlxserve", 10**11),))
RDMA = (None, "rdma_en2")
ring = Target("mini-2", "192.168.5.2:32324", "ring")


def mini(label: str = "mini-1", facts: Facts | None = MINI, **changes: Any) -> Visit:
    fields = {"host": Host(label, ("192.168.5.1",)), "question": Question(), "program": "~/mlxserve", **changes}
    return Visit(label, facts=facts, **fields)


def changed(**changes: Any) -> Facts:
    return msgspec.structs.replace(MINI, **changes)


def with_system(**changes: Any) -> Facts:
    return changed(system=msgspec.structs.replace(MAC, **changes))


def bad(*visits: Visit, jaccl: bool = False, envs: tuple[str, ...] = ()) -> list[Finding]:
    return [finding for finding in judge([*visits], BUILD, envs, jaccl) if finding.level != "ok"]


def the_bad(*visits: Visit, jaccl: bool = False) -> Finding:
    (finding,) = bad(*visits, jaccl=jaccl)
    assert finding.advice
    return finding


def unreached(number: int, name: str, text: str) -> Visit:
    return mini(targets=(ring,), reached=(Reach(ring.address, failure=Failure(name, number, text)),))


def test_two_equal_minis_are_well() -> None:
    assert bad(mini("mini-1"), mini("mini-2")) == []


def test_errno_65_names_local_network_privacy() -> None:
    finding = the_bad(unreached(65, "EHOSTUNREACH", "No route to host"))
    assert finding.level == "error"
    assert finding.message == "mini-2 at 192.168.5.2:32324 (ring): No route to host (errno 65)"
    assert "Privacy & Security → Local Network" in finding.advice


@pytest.mark.parametrize(
    ("number", "name", "advice"),
    [
        (60, "ETIMEDOUT", "System Settings → Network → Firewall"),
        (61, "ECONNREFUSED", "does a firewall on mini-2 reject it"),
        (0, "STRANGER", "another machine has 192.168.5.2 too"),
        (54, "ECONNRESET", "look at the network between the two"),
    ],
)
def test_each_failure_to_reach_a_peer_has_its_advice(number: int, name: str, advice: str) -> None:
    assert advice in the_bad(unreached(number, name, "…")).advice


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("ssh: connect to host mini-1 port 22: Operation timed out", "switched on, awake"),
        ("me@mini-1: Permission denied (publickey,password).", "`ssh-copy-id mini-1`"),
        ("ssh: Could not resolve hostname mini-1: nodename nor servname provided", "mini-1.local"),
        ("kex_exchange_identification: read: …", "`ssh mini-1 true` must work"),
    ],
)
def test_each_complaint_of_ssh_is_told_with_its_advice(complaint: str, advice: str) -> None:
    finding = the_bad(mini(facts=None, trouble=Trouble("unreached", complaint)))
    assert (finding.subject, finding.level) == ("ssh", "error")
    assert complaint in finding.message
    assert advice in finding.advice


def test_a_program_that_says_itself_why_it_ends_is_not_taken_for_another_build() -> None:
    trouble = Trouble("broken", "mlxserve: error: the disk of /home is full: free some")
    finding = the_bad(mini(facts=None, trouble=trouble))
    assert finding.message == "~/mlxserve does not start: the disk of /home is full: free some"
    assert "--deploy" not in finding.advice


def test_a_mac_without_the_program_still_tells_its_system() -> None:
    bare = Missing("Darwin", "26.2", "arm64", 100 * 10**6)
    findings = judge([mini(facts=None, trouble=Trouble("missing", bare=bare))], BUILD)
    assert [(finding.subject, finding.level) for finding in findings] == [
        ("ssh", "ok"),
        ("program", "error"),
        ("system", "ok"),
    ]
    assert "mlxserve check --deploy" in findings[1].advice
    assert findings[2].message == "macOS 26.2 arm64, 102.4 GB free in the home folder"


def test_another_build_is_told_with_both_ids() -> None:
    finding = the_bad(mini(), mini("mini-2", changed(build="ba9876543210")))
    assert (finding.host, finding.subject, finding.level) == ("mini-2", "program", "error")
    assert "ba9876543210" in finding.message
    assert BUILD in finding.message


def test_a_macos_that_is_too_old_for_the_build() -> None:
    finding = the_bad(mini(facts=with_system(minimum="26.2", version="26.1.3")))
    assert finding.level == "error"
    assert "needs macOS 26.2 or later" in finding.message


def test_versions_are_compared_as_numbers() -> None:
    assert bad(mini(facts=with_system(minimum="14.0", version="26.10"))) == []
    assert bad(mini(facts=with_system(minimum="26.2", version="26.10"))) == []


@pytest.mark.parametrize(
    ("other", "jaccl", "level"),
    [
        ({"version": "26.3", "build": "25D10"}, False, "warning"),
        ({"version": "26.3", "build": "25D10"}, True, "error"),
        ({"build": "25C99"}, True, "error"),
        ({"kind": "Linux", "machine": "x86_64"}, False, "error"),
    ],
)
def test_systems_that_differ(other: dict[str, str], jaccl: bool, level: str) -> None:
    finding = the_bad(mini(), mini("mini-2", with_system(**other)), jaccl=jaccl)
    assert (finding.host, finding.subject, finding.level) == ("mini-2", "system", level)
    assert "25C56" in finding.message


def test_builds_of_one_version_may_differ_in_a_ring() -> None:
    assert bad(mini(), mini("mini-2", with_system(build="25C99"))) == []


@pytest.mark.parametrize(("seconds", "way"), [(2.5, "2.5 s ahead of"), (-3600.0, "3600.0 s behind")])
def test_a_clock_that_is_wrong(seconds: float, way: str) -> None:
    finding = the_bad(mini(clock=seconds))
    assert (finding.subject, finding.level) == ("clock", "warning")
    assert way in finding.message


def test_a_clock_that_is_nearly_right() -> None:
    assert bad(mini(clock=-1.5)) == []


def test_a_mac_that_falls_asleep() -> None:
    finding = the_bad(mini(facts=changed(sleep_minutes=10)))
    assert (finding.level, finding.message) == ("warning", "sleeps after 10 idle minutes")
    assert "pmset -a sleep 0" in finding.advice


def test_little_memory_and_disk_are_warnings() -> None:
    facts = changed(free_memory=5 * 10**8, disks=(Disk("/cache", 10**8), Disk("/locked", 10**12, writable=False)))
    assert [(finding.subject, finding.level) for finding in bad(mini(facts=facts))] == [
        ("memory", "warning"),
        ("disk", "warning"),
        ("disk", "warning"),
    ]


def rdma(facts: Facts) -> Visit:
    return mini(facts=facts, host=Host("mini-1", ("192.168.5.1",), RDMA), question=Question(rdma=True))


@pytest.mark.parametrize(
    ("system", "devices", "message"),
    [
        ({"version": "15.6", "minimum": "26.2"}, None, "macOS 15.6 has no RDMA"),
        ({"minimum": "14.0"}, ("rdma_en2",), "this build, for macOS 14.0 and later, has no RDMA"),
        ({"minimum": "26.2"}, None, "has no RDMA device"),
        ({"minimum": "26.2"}, (), "has no RDMA device"),
        ({"minimum": "26.2"}, ("rdma_en3", "rdma_en4"), "has no rdma_en2, but rdma_en3, rdma_en4"),
    ],
)
def test_rdma_that_is_not_there(system: dict[str, str], devices: tuple[str, ...] | None, message: str) -> None:
    facts = msgspec.structs.replace(with_system(**system), rdma=devices)
    found = [finding for finding in bad(rdma(facts), jaccl=True) if finding.subject == "RDMA"]
    assert [(finding.level, finding.message.startswith(message)) for finding in found] == [("error", True)]


def test_rdma_that_is_there() -> None:
    facts = msgspec.structs.replace(with_system(minimum="26.2"), rdma=("rdma_en2", "rdma_en3"))
    assert bad(rdma(facts), jaccl=True) == []


def test_an_address_that_moved_is_told_with_those_there_are() -> None:
    facts = changed(strange_addresses=("192.168.5.1",), interfaces=("169.254.7.9 (bridge0)",))
    facts = msgspec.structs.replace(
        facts, listening=(Port("192.168.5.1:32323", Failure("EADDRNOTAVAIL", 49, "Can't assign requested address")),)
    )
    finding = the_bad(mini(facts=facts, question=Question(addresses=("192.168.5.1",))))
    assert finding.message == "192.168.5.1 is on no interface; it has 169.254.7.9 (bridge0)"
    assert "/30" in finding.advice


FOLDER = Model("folder", "/models/big", digest="aaa", weight_bytes=10**9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "bbb"}, "its config.json (bbb) is not that of mini-1 (aaa)"),
        ({"weight_bytes": 9}, "has 9 bytes of weights, but 1000000000 on mini-1"),
    ],
)
def test_models_that_are_not_the_same(changes: dict[str, Any], message: str) -> None:
    other = msgspec.structs.replace(FOLDER, **changes)
    finding = the_bad(mini(facts=changed(model=FOLDER)), mini("mini-2", changed(model=other)))
    assert (finding.host, finding.subject, finding.level) == ("mini-2", "model", "error")
    assert message in finding.message


LACKING = [
    ({"problem": "is not there"}, "/models/big: is not there"),
    ({"missing": ("model-2.safetensors",)}, "lacks 1 weight file: model-2.safetensors"),
]


@pytest.mark.parametrize(("changes", "message"), LACKING)
def test_a_model_that_the_first_host_lacks_must_be_copied_there(changes: dict[str, Any], message: str) -> None:
    other = msgspec.structs.replace(FOLDER, **changes)
    finding = the_bad(mini(facts=changed(model=other)), mini("mini-2", changed(model=FOLDER)))
    assert (finding.host, finding.subject, finding.level) == ("mini-1", "model", "error")
    assert message in finding.message
    assert "copy" in finding.advice


@pytest.mark.parametrize(("changes", "message"), LACKING)
def test_a_model_that_the_first_host_alone_has_is_given_by_it(changes: dict[str, Any], message: str) -> None:
    other = msgspec.structs.replace(FOLDER, **changes)
    finding = judge([mini(facts=changed(model=FOLDER)), mini("mini-2", changed(model=other))], BUILD)[-1]
    assert (finding.host, finding.subject, finding.level) == ("mini-2", "model", "ok")
    assert message in finding.message
    assert finding.message.endswith("; what its rank needs is given by mini-1")


HUB = Model("hub", "/hub", digest="aaa", weight_bytes=5)


@pytest.mark.parametrize(
    ("first", "second", "level", "message"),
    [
        ({}, {"digest": ""}, "ok", "not here yet, what its rank needs is given by mini-1"),
        ({}, {"missing": ("b",), "offline": True}, "ok", "5 B of weights here, what its rank needs is given by mini-1"),
        ({"missing": ("a",)}, {"digest": ""}, "ok", "not here yet, what its rank needs will be downloaded; no token"),
        ({"digest": ""}, {"missing": ("b",), "has_token": True}, "ok", "what its rank needs will be downloaded"),
        ({"missing": ("a",)}, {"digest": "bbb"}, "warning", "its config (bbb) is not that of mini-1 (aaa)"),
        (
            {"missing": ("a",)},
            {"digest": "bbb", "offline": True},
            "error",
            "its config (bbb) is not that of mini-1 (aaa)",
        ),
        ({"missing": ("a",)}, {"digest": "", "offline": True}, "error", "not here yet, and HF_HUB_OFFLINE is set"),
        (
            {"missing": ("a",)},
            {"missing": ("b",), "offline": True},
            "warning",
            "5 B of weights here, 1 files missing",
        ),
        ({}, {"offline": True}, "ok", "5 B of weights here"),
    ],
)
def test_what_the_hub_will_have_to_give(
    first: dict[str, Any], second: dict[str, Any], level: str, message: str
) -> None:
    visits = [
        mini(label, changed(model=msgspec.structs.replace(HUB, **changes)), question=Question(model="org/name"))
        for label, changes in (("mini-1", first), ("mini-2", second))
    ]
    finding = judge(visits, BUILD)[-1]
    assert (finding.host, finding.subject, finding.level) == ("mini-2", "model", level)
    assert finding.message.startswith("org/name: ")
    assert message in finding.message
    assert bool(finding.advice) == (level != "ok")


def test_a_port_or_a_host_to_serve_on_that_cannot_be_had() -> None:
    for failure, advice in (("EADDRINUSE", "--port"), ("gaierror", "--host"), ("EACCES", "--port")):
        facts = changed(serve=Port("mini-9:80", Failure(failure, 1, "why")))
        assert advice in the_bad(mini(facts=facts)).advice


def test_weights_that_fit_no_host_nor_all_together() -> None:
    big = changed(model=msgspec.structs.replace(FOLDER, weight_bytes=40 * 10**9))
    finding = the_bad(mini(facts=big), mini("mini-2", big))
    assert (finding.host, finding.level) == ("all hosts", "warning")
    assert "40.0 GB" in finding.message
    assert "32.0 GB" in finding.message


def test_the_variable_that_deadlocks_macs_is_found_in_the_hosts_file_and_in_this_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLX_METAL_FAST_SYNCH", "1")
    findings = bad(mini(), envs=("MLX_METAL_FAST_SYNCH=1",))
    assert [(finding.host, finding.level) for finding in findings] == [
        ("hosts file", "warning"),
        ("this machine", "warning"),
    ]


def test_a_terminal_gets_colours_unless_it_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("mini-1", "ssh", "error", "not reached", "do something")]
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert written_to_terminal(findings).startswith("\033[31mFAIL\033[0m  mini-1  ssh  not reached\r\n")
    monkeypatch.setenv("NO_COLOR", "1")
    assert written_to_terminal(findings).startswith("FAIL  mini-1  ssh  not reached\r\n")


def written_to_terminal(findings: list[Finding]) -> str:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        write_table(findings, terminal)
        written = os.read(master, 4096).decode()
    os.close(master)
    return written
