"""`mlxserve check` on this machine alone, and what it does about hosts that say odd things or nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxserve.config import Settings
from mlxserve.launch.check.conversation import Conversation
from mlxserve.launch.check.messages import Facts, Question
from mlxserve.launch.check.round import questions_for, targets_of
from mlxserve.launch.check.visit import Trouble, Visit
from mlxserve.launch.hostfile import Host, Hostfile, ranks_here
from mlxserve.launch.request import LaunchRequest
from tests.launch.conftest import WITHOUT_RIGHTS, Program

HERE = Host("127.0.0.1", ("127.0.0.1",))


def check(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlxserve", "check", *words], capture_output=True, text=True, timeout=60, **options
    )


def looked(program: str, seconds: float = 5.0, host: Host = HERE) -> Facts | Trouble:
    """What comes of looking at this machine, or another, with another program."""

    async def look() -> Facts | Trouble:
        conversation = Conversation(host, [program], "/")
        try:
            return await conversation.look(Question(), seconds)
        finally:
            await conversation.end()

    return asyncio.run(look())


def test_ranks_on_this_machine_are_checked_for_scripts() -> None:
    done = check("-n", "2", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["ok"]
    assert {"system", "memory", "disk"} <= {finding["subject"] for finding in report["findings"]}
    assert set(report["findings"][0]) == {"host", "subject", "level", "message", "advice"}
    assert report["group"]["exit_code"] == 0
    assert "ok  relay  exact to the bit on 2 ranks" in report["group"]["lines"]
    (split,) = (line for line in report["group"]["lines"] if line.startswith("ok  split"))
    expected = re.fullmatch(
        r"ok  split  4 \+ 4 layers: a token is expected to take (\S+) \+ (\S+) = (\S+) ms to compute", split
    )
    assert expected
    assert float(expected[1]) + float(expected[2]) == pytest.approx(float(expected[3]), abs=0.011)
    assert float(expected[1]) > float(expected[2]) > 0  # the head is on rank 0


def test_a_group_that_fails_is_told_to_scripts_with_its_exit_code() -> None:
    done = check("-n", "2", "--json", "--split", "1,99")
    assert done.returncode == 2
    group = json.loads(done.stdout)["group"]
    assert (group["ok"], group["exit_code"], group["lines"]) == (False, 2, [])
    assert any("error: " in line and "--split" in line for line in group["log"])


def test_bytes_that_are_no_text_are_told_to_scripts_all_the_same(program: Program) -> None:
    odd = program("import sys; sys.stdout.buffer.write(b'ok \\xff\\n')")
    done = check("-n", "1", "--json", "--program", odd)
    assert json.loads(done.stdout)["group"]["lines"] == ["ok \ufffd"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--hostfile", "nowhere.json"), "nowhere.json doesn't exist"),
        (("-n", "2", "--split", "1,2,3"), "--split names layers for 3 ranks"),
        (("-n", "2", "--split", "a"), "argument --split"),
        (("-n", "2", "--nonsense"), "unrecognized arguments: --nonsense"),
    ],
)
def test_a_mistake_is_told_to_scripts_too(words: tuple[str, ...], sentence: str) -> None:
    done = check(*words, "--json")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert (report["ok"], report["findings"], report["group"]) == (False, [], None)
    assert sentence in report["error"]
    assert done.stderr == f"mlxserve: error: {report['error']}\n"


def test_a_hosts_file_in_a_folder_that_is_shut_is_told_to_scripts(shut: Path) -> None:
    command = [*WITHOUT_RIGHTS, sys.executable, "-m", "mlxserve", "check", "--json", "--hostfile", f"{shut}/hosts.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == f"hosts file {shut}/hosts.json cannot be read: Permission denied"


def test_a_check_that_is_interrupted_tells_scripts(hosts: Path, program: Program, tmp_path: Path) -> None:
    hanging = program("import os, time; open(os.environ['HOME'] + '/here', 'w').close(); time.sleep(60)")
    (tmp_path / "hosts.json").write_text(json.dumps([{"ssh": "mini-1", "ips": ["10.9.8.7"]}]))
    (hosts / "mini-1").mkdir(parents=True)
    os.mkfifo(hosts / "mini-1" / "here")
    command = ["check", "--json", "--hostfile", str(tmp_path / "hosts.json"), "--program", hanging]
    process = subprocess.Popen([sys.executable, "-m", "mlxserve", *command], stdout=subprocess.PIPE, text=True)
    (hosts / "mini-1" / "here").read_text()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=5)
    assert process.returncode == 130
    assert json.loads(output) == {"ok": False, "findings": [], "group": None, "error": "interrupted"}


def test_a_folder_that_is_shut_is_a_finding(shut: Path) -> None:
    command = [*WITHOUT_RIGHTS, sys.executable, "-m", "mlxserve", "check", "-n", "1", "--json"]
    done = subprocess.run(
        [*command, "--model", f"{shut}/x.gguf"],
        env={**os.environ, "XDG_CACHE_HOME": f"{shut}/cache"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["disk"]["message"] == f"{shut}/cache/mlxserve cannot be written"
    assert "is not there" in findings["model"]["message"]


def test_a_finding_that_is_an_error_leaves_scripts_without_a_group() -> None:
    done = check("-n", "1", "--json", "--model", "org/name", env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/-"})
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["ok"], report["group"]) == (False, None)
    assert [finding["subject"] for finding in report["findings"] if finding["level"] == "error"] == ["model"]


def test_a_model_that_is_not_there_keeps_the_group_from_being_formed(tmp_path: Path) -> None:
    done = check("-n", "2", "--model", str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "FAIL  this machine  model" in done.stdout
    assert "rank" not in done.stdout + done.stderr


def test_a_host_that_hangs_is_a_finding(program: Program) -> None:
    assert looked(program("import time; time.sleep(60)"), 0.3) == Trouble("silent", "no answer within 0.3 s")


def test_a_program_that_dies_is_told_by_its_last_words(program: Program) -> None:
    dying = program("import sys; print('a story'); sys.exit('mlxserve: error: the end')")
    assert looked(dying) == Trouble("broken", "mlxserve: error: the end")
    assert looked(program("import os; os._exit(3)")) == Trouble(
        "broken", "it ended with exit code 3 and without a word"
    )


def test_a_program_on_a_host_that_ends_with_sshs_own_code_is_broken(hosts: Path, program: Program) -> None:
    damaged = program("import sys; print('a file is damaged', file=sys.stderr, flush=True); sys.exit(255)")
    assert looked(damaged, host=Host("mini-1")) == Trouble("broken", "a file is damaged")


def test_what_a_shell_says_first_is_passed_over(program: Program) -> None:
    noisy = "print('welcome', '{', '[1, 2]', '{\"type\": 5}', sep='\\n', flush=True); import os, sys\n"
    noisy += "os.execv(sys.executable, [sys.executable, '-m', 'mlxserve', 'probe'])"
    assert isinstance(looked(program(noisy)), Facts)


def test_a_missing_program_is_answered_by_bash(tmp_path: Path) -> None:
    trouble = looked(str(tmp_path / "mlx serve"))
    assert isinstance(trouble, Trouble)
    assert trouble.kind == "missing"
    assert trouble.bare
    assert trouble.bare.system == "Linux"
    assert trouble.bare.free_kilobytes > 0


def three(backend: str) -> Hostfile:
    return Hostfile(tuple(Host(f"mini-{number}", (f"192.168.5.{number}",)) for number in (1, 2, 3)), backend)


def test_each_host_listens_where_its_rank_will() -> None:
    request, settings = LaunchRequest(starting_port=5000, connections_per_ip=2), Settings(host="0.0.0.0", port=80)
    first, second, third = questions_for(three("ring"), request, settings)
    assert second.listen == ("192.168.5.2:5002", "192.168.5.2:5003")
    assert (first.control, second.control, third.control) == ("192.168.5.1", "", "")
    assert (first.serve, second.serve) == ("0.0.0.0:80", "")
    assert first.token == second.token == third.token != ""


def test_jaccl_listens_at_its_coordinator_alone() -> None:
    first, second, _ = questions_for(three("jaccl"), LaunchRequest(), Settings())
    assert (first.listen, second.listen) == (("192.168.5.1:32323",), ())
    assert second.rdma


def test_one_rank_listens_for_nobody() -> None:
    (alone,) = questions_for(ranks_here(1), LaunchRequest(), Settings(port=0))
    assert (alone.listen, alone.control, alone.serve) == ((), "", "")


def test_hosts_without_facts_are_no_targets() -> None:
    visits = [Visit(host.ssh, host, Question()) for host in three("ring").hosts]
    assert [targets_of(rank, visits, "ring") for rank in range(3)] == [(), (), ()]
