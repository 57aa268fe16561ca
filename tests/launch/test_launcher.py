"""`mlxserve launch` as a user sees it: ranks start, speak, and end together."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.launch.conftest import REPORT, WAIT, Launch, Program, reports
from tests.system.server import MLXSERVE

STUBBORN = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGHUP)]\n" + WAIT
RANK_1_FAILS = WAIT.replace("time.sleep(0.1)", "time.sleep(0.1); os.environ['MLX_RANK'] == '0' or sys.exit(7)")


def is_running(pid: object) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_until_ended(pids: list[object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < end, "a rank lives on"
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def two_hosts(folder: Path) -> str:
    path = folder / "hosts.json"
    hosts = [{"ssh": f"mini-{number}", "ips": ["127.0.0.1"]} for number in (1, 2)]
    path.write_text(json.dumps({"envs": ["FOO=it's a value", "MLX_METAL_FAST_SYNCH=1"], "hosts": hosts}))
    return str(path)


def test_ranks_here_get_their_variables_and_flags(launch: Launch, program: Program, tmp_path: Path) -> None:
    launcher = launch("-n", "2", "--program", program(REPORT), "--model", "demo", "--split", "14,14", MLX_RANK="5")
    first, second = reports(launcher, 2)
    assert [first["label"], second["label"]] == ["[rank 0]", "[rank 1]"]
    assert [first["MLX_RANK"], second["MLX_RANK"]] == ["0", "1"]
    assert first["argv"] == second["argv"] == ["serve", "--model", "demo", "--split", "14,14"]
    assert first["addresses"] == second["addresses"]
    assert len({address for (address,) in first["addresses"]}) == 2  # type: ignore[attr-defined]
    assert first["folder"] == str(tmp_path)
    assert launcher.wait(10) == 0
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("words", [(), ("--backend", "ring")])
def test_keys_reach_rank_0_alone_and_no_list_of_processes(
    launch: Launch, program: Program, tmp_path: Path, fake_ssh: str, words: tuple[str, ...]
) -> None:
    telling = WAIT.replace('"FOO")', '"MLXSERVE_API_KEY")')
    flags = ("--api-key=sk-flag", "--model", "demo", "--api-key", "sk-more,sk-most")
    where = ("--hostfile", two_hosts(tmp_path)) if words else ("-n", "2")
    environment = {} if words else {"MLXSERVE_API_KEY": "sk-it's"}
    launcher = launch(*where, *words, "--program", program(telling), *flags, PATH=fake_ssh, **environment)
    first, second = reports(launcher, 2)
    own = [environment["MLXSERVE_API_KEY"]] if environment else []
    assert str(first["MLXSERVE_API_KEY"]).split(",") == ["sk-flag", "sk-more", "sk-most", *own]
    assert second.get("MLXSERVE_API_KEY") == (own[0] if own else None)
    assert first["argv"] == second["argv"] == ["serve", "--model", "demo"]
    lines = subprocess.run(["ps", "-axo", "pid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    assert not [line for line in lines if "sk-" in line and line.split()[0] != str(launcher.pid)]


def test_a_failed_rank_ends_the_others_and_gives_its_exit_code(launch: Launch, program: Program) -> None:
    launcher = launch("-n", "2", "--program", program(RANK_1_FAILS))
    ranks = reports(launcher, 2)
    _, errors = launcher.communicate(timeout=6)
    assert launcher.returncode == 7
    assert "mlxserve: rank 1 ended with exit code 7; ending the others" in errors
    wait_until_ended([rank["pid"] for rank in ranks], 0.5)


def test_a_killed_rank_is_told_by_its_signal(launch: Launch, program: Program) -> None:
    launcher = launch("-n", "2", "--program", program(WAIT))
    first, _ = reports(launcher, 2)
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    _, errors = launcher.communicate(timeout=6)
    assert launcher.returncode == 137
    assert "rank 0 was ended by signal 9" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_in_good_order(
    launch: Launch, program: Program, tmp_path: Path, number: signal.Signals
) -> None:
    polite = "import signal, sys; signal.signal(signal.SIGHUP, lambda *_: (print('bye'), sys.exit(3)))\n" + WAIT
    launcher = launch("-n", "2", "--program", program(polite), "--drain-seconds", "0")
    ranks = reports(launcher, 2)
    launcher.send_signal(number)
    output, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 0
    assert sorted(output.splitlines()) == ["[rank 0] bye", "[rank 1] bye"]
    assert errors == ""
    wait_until_ended([rank["pid"] for rank in ranks], 0.5)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_signal_ends_a_check_with_a_code_that_is_no_success(launch: Launch, program: Program) -> None:
    checker = launch("-n", "2", "--program", program(WAIT), subcommand="check")
    line = "a finding comes first"
    while checker.stdout and "report " not in line:
        line = checker.stdout.readline()
    checker.send_signal(signal.SIGINT)
    assert checker.wait(5) == 130


def test_ranks_that_ignore_it_are_killed_within_five_seconds(launch: Launch, program: Program, tmp_path: Path) -> None:
    launcher = launch("-n", "2", "--program", program(STUBBORN))
    ranks = reports(launcher, 2)
    launcher.send_signal(signal.SIGHUP)
    assert launcher.wait(5) == 0
    wait_until_ended([rank["pid"] for rank in ranks], 0.2)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_after_sigterm_ranks_may_finish_what_they_have_begun(launch: Launch, program: Program) -> None:
    bye = "lambda *_: (time.sleep(1), print('bye'), sys.exit())"
    finishing = f"import signal, sys, time; signal.signal(signal.SIGTERM, {bye})\n"
    launcher = launch("-n", "2", "--program", program(finishing + WAIT), "--drain-seconds", "20")
    ranks = reports(launcher, 2)
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate(timeout=10)
    assert launcher.returncode == 0
    assert sorted(output.splitlines()) == ["[rank 0] bye", "[rank 1] bye"]
    wait_until_ended([rank["pid"] for rank in ranks], 0.5)


def test_ranks_that_never_finish_are_ended(launch: Launch, program: Program) -> None:
    launcher = launch("-n", "2", "--program", program(STUBBORN), "--drain-seconds", "0.5")
    ranks = reports(launcher, 2)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(10) == 0
    wait_until_ended([rank["pid"] for rank in ranks], 0.2)


def test_a_second_signal_ends_ranks_that_are_finishing(launch: Launch, program: Program) -> None:
    finishing = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAIT
    launcher = launch("-n", "2", "--program", program(finishing), "--drain-seconds", "20")
    ranks = reports(launcher, 2)
    launcher.send_signal(signal.SIGTERM)
    with pytest.raises(TimeoutError):
        wait_for_exit(launcher.pid, 0.3)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(2) == 130
    wait_until_ended([rank["pid"] for rank in ranks], 0.5)


def test_a_second_signal_ends_at_once(launch: Launch, program: Program, tmp_path: Path) -> None:
    launcher = launch("-n", "2", "--program", program(STUBBORN))
    ranks = reports(launcher, 2)
    launcher.send_signal(signal.SIGINT)
    with pytest.raises(TimeoutError):
        wait_for_exit(launcher.pid, 0.3)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(1.5) == 130
    wait_until_ended([rank["pid"] for rank in ranks], 0.2)
    assert list((tmp_path / "scratch").iterdir()) == []


def wait_for_exit(pid: int, seconds: float) -> None:
    """Wait for a process of ours without taking its exit code."""
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def test_a_killed_launcher_leaves_nothing_behind(launch: Launch, program: Program, tmp_path: Path) -> None:
    launcher = launch("-n", "2", "--program", program(WAIT))
    ranks = reports(launcher, 2)
    launcher.kill()
    wait_until_ended([rank["pid"] for rank in ranks], 5)
    end = time.monotonic() + 2
    while list((tmp_path / "scratch").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_rank_can_see_on_its_standard_input_that_the_launcher_is_gone(launch: Launch, program: Program) -> None:
    watching = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + REPORT
    watching += "import stat; assert stat.S_ISFIFO(os.fstat(0).st_mode); sys.stdin.read()"
    launcher = launch("-n", "2", "--program", program(watching))
    ranks = reports(launcher, 2)
    launcher.kill()
    wait_until_ended([rank["pid"] for rank in ranks], 6)


def test_an_idle_launcher_uses_no_cpu(launch: Launch, program: Program) -> None:
    launcher = launch("-n", "2", "--program", program(WAIT))
    reports(launcher, 2)
    before = cpu_seconds(launcher.pid)
    time.sleep(2)
    assert cpu_seconds(launcher.pid) - before <= 0.02


def test_hosts_are_reached_by_ssh(launch: Launch, program: Program, tmp_path: Path, fake_ssh: str) -> None:
    launcher = launch("--hostfile", two_hosts(tmp_path), "--program", program(WAIT), "--port", "8101", PATH=fake_ssh)
    first, second = reports(launcher, 2)
    assert [first["label"], second["label"]] == ["[mini-1]", "[mini-2]"]
    assert first["argv"] == ["serve", "--port", "8101"]
    assert first["FOO"] == "it's a value"
    assert "MLX_METAL_FAST_SYNCH" not in first
    assert first["addresses"] == [["127.0.0.1:32323"], ["127.0.0.1:32324"]]
    log = (tmp_path / "ssh.log").read_text().splitlines()
    assert sorted(line.split()[-1] for line in log) == ["mini-1", "mini-2"]
    assert all("BatchMode=yes" in line for line in log)
    launcher.send_signal(signal.SIGTERM)
    _, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 0
    assert "warning: MLX_METAL_FAST_SYNCH is not passed on" in errors
    wait_until_ended([first["pid"], second["pid"]], 0.5)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_public_addresses_are_refused(launch: Launch, program: Program, tmp_path: Path, fake_ssh: str) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps([{"ssh": "mini-1", "ips": ["192.168.5.1"]}, {"ssh": "mini-2", "ips": ["8.8.8.8"]}]))
    arguments = ["--hostfile", str(path), "--program", program(WAIT)]
    launcher = launch(*arguments, PATH=fake_ssh)
    _, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 2
    assert "8.8.8.8, an address of mini-2, is public" in errors
    assert "--public-addresses" in errors
    allowed = launch(*arguments, "--public-addresses", PATH=fake_ssh)
    reports(allowed, 2)
    allowed.send_signal(signal.SIGINT)
    assert allowed.wait(5) == 0


def test_a_host_that_is_not_reached_is_named(launch: Launch, program: Program, tmp_path: Path, fake_ssh: str) -> None:
    (tmp_path / "bin" / "ssh").write_text("#!/bin/bash\necho 'ssh: no route to host' >&2\nexit 255\n")
    launcher = launch("--hostfile", two_hosts(tmp_path), "--program", program(WAIT), PATH=fake_ssh)
    _, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 255
    assert "[mini-1] ssh: no route to host" in errors
    assert "was not reached or was lost: does `ssh mini-1 true` work without a password?" in errors


def test_a_program_that_ends_with_sshs_own_code_is_not_taken_for_a_lost_host(
    launch: Launch, program: Program, tmp_path: Path, fake_ssh: str
) -> None:
    damaged = program("import sys; print('a file is damaged', file=sys.stderr, flush=True); sys.exit(255)")
    launcher = launch("--hostfile", two_hosts(tmp_path), "--program", damaged, PATH=fake_ssh)
    _, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 3
    assert "[mini-1] a file is damaged" in errors
    assert " ended with exit code 3" in errors
    assert "ssh" not in errors


def test_ranks_go_on_where_nobody_reads_what_they_say(launch: Launch, program: Program) -> None:
    polite = "import signal, sys; signal.signal(signal.SIGHUP, lambda *_: (print('bye'), sys.exit(3)))\n" + WAIT
    launcher = launch("-n", "2", "--program", program(polite))
    ranks = reports(launcher, 2)
    stop_reading(launcher)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(5) == 0
    wait_until_ended([rank["pid"] for rank in ranks], 0.5)


def test_a_failed_rank_gives_its_exit_code_where_nobody_reads_why(launch: Launch, program: Program) -> None:
    launcher = launch("-n", "2", "--program", program(RANK_1_FAILS))
    ranks = reports(launcher, 2)
    stop_reading(launcher)
    assert launcher.wait(6) == 7
    wait_until_ended([rank["pid"] for rank in ranks], 0.5)


def stop_reading(launcher: subprocess.Popen[str]) -> None:
    for stream in (launcher.stdout, launcher.stderr):
        assert stream
        stream.close()


def test_a_host_without_the_program_is_told_what_to_do(
    launch: Launch, program: Program, tmp_path: Path, fake_ssh: str
) -> None:
    home = Path(program(WAIT)).parent
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/bash\nHOME={tmp_path}/remote exec bash -c "${{!#}}"\n')
    launcher = launch("--hostfile", two_hosts(tmp_path), "--program", f"{home}/program", PATH=fake_ssh, HOME=str(home))
    output, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 127
    assert output == ""
    sentence = "mini-1 has no program at ~/program: copy this one there with --deploy, or name the path it has on every"
    assert f"mlxserve: {sentence} host with --program\n" in errors
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_program_that_cannot_be_run_is_told(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("not a program")
    launcher = launch("-n", "2", "--program", f"{tmp_path}/program")
    _, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 126
    assert f"rank 0 cannot run {tmp_path}/program: name another with --program" in errors


def test_a_program_in_the_home_folder_is_taken_from_each_hosts_own(
    launch: Launch, program: Program, tmp_path: Path, fake_ssh: str
) -> None:
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/bash\nHOME={tmp_path}/remote exec bash -c "${{!#}}"\n')
    there = tmp_path / "remote" / "it's mine" / "program"
    there.parent.mkdir(parents=True)
    Path(program(REPORT)).rename(there)
    home = str(tmp_path / "here")
    for word in ("~/it's mine/program", f"{home}/it's mine/program"):
        launcher = launch("--hostfile", two_hosts(tmp_path), "--program", word, PATH=fake_ssh, HOME=home)
        assert len(reports(launcher, 2)) == 2
        assert launcher.wait(5) == 0


@pytest.mark.parametrize("command", ["launch -n 2", "launch -n 2 --program ./mlxserve", "check -n 1"])
def test_a_folder_that_is_gone_is_told(tmp_path: Path, command: str) -> None:
    gone = ["bash", "-c", 'cd "$0"; rmdir "$0"; exec "$@"', str(tmp_path / "gone"), MLXSERVE]
    (tmp_path / "gone").mkdir()
    done = subprocess.run([*gone, *command.split()], capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: the folder that this runs in cannot be used (No such file or directory): change to" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-n", "2", "--tempp", "1"), "unrecognized arguments: --tempp 1"),
        (("-n", "2", "--split", "14,14,14"), "--split names layers for 3 ranks, but there are 2"),
        (("-n", "2", "--split", "14,14", "--parallel", "tensor"), "--split gives each rank whole layers"),
        (("-n", "2", "--min-ranks", "1", "--parallel", "tensor"), "heads may not be divisible by fewer ranks"),
        (("-n", "0"), "argument -n: must be a whole number from 1 to 64, not '0'"),
        (("-n", "2", "--hostfile", "hosts.json"), "not allowed with argument"),
        (("--hostfile", "nowhere.json"), "nowhere.json doesn't exist"),
        ((), "name the hosts with --hostfile hosts.json, or a number of ranks"),
    ],
)
def test_a_mistake_is_told_once_before_anything_starts(
    launch: Launch, program: Program, words: tuple[str, ...], sentence: str
) -> None:
    launcher = launch("--program", program(WAIT), *words)
    output, errors = launcher.communicate(timeout=5)
    assert launcher.returncode == 2
    assert output == ""
    assert errors.startswith("mlxserve: error: ")
    assert sentence in errors
    assert errors.count("\n") == 1
