"""The command line: every flag sets its setting, is in --help and in the README, and mistakes get a sentence."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlxserve.__main__ import run
from mlxserve.cli import parser
from mlxserve.config import DEFAULT_MODEL, Place, Settings
from mlxserve.errors import UserError
from mlxserve.flags import FLAGS, settings_from

EXAMPLES = {
    "--model": ("demo", "demo"),
    "--adapter": ("adapters", "adapters"),
    "--host": ("0.0.0.0", "0.0.0.0"),
    "--port": ("9000", 9000),
    "--model-name": ("mine", ("mine",)),
    "--served-model-name": ("mine,yours", ("mine", "yours")),
    "--alias": ("mine, yours", ("mine", "yours")),
    "--strict-model": ("", True),
    "--api-key": ("sk-one,sk-two", ("sk-one", "sk-two")),
    "--api-key-file": ("keys.txt", "keys.txt"),
    "--cors-origin": ("https://Example.com,http://localhost:3000", ("https://example.com", "http://localhost:3000")),
    "--allowed-host": ("mini.local", ("mini.local",)),
    "--ssl-certfile": ("server.pem", "server.pem"),
    "--ssl-keyfile": ("server.key", "server.key"),
    "--keep-weights": ("", True),
    "--dtype": ("bfloat16", "bfloat16"),
    "--split": ("28", (28,)),
    "--memory-limit": ("12GB", (12_000_000_000,)),
    "--parallel": ("auto", "auto"),
    "--fallback": ("ring", "ring"),
    "--max-tokens": ("64", 64),
    "--temp": ("0.5", 0.5),
    "--top-p": ("0.9", 0.9),
    "--top-k": ("20", 20),
    "--min-p": ("0.05", 0.05),
    "--ctx-size": ("4096", 4096),
    "--decode-concurrency": ("4", 4),
    "--prompt-concurrency": ("2", 2),
    "--max-queue": ("8", 8),
    "--max-connections": ("64", 64),
    "--prefill-step-size": ("512", 512),
    "--prefill-share": ("0.5", 0.5),
    "--kv-bits": ("8", 8),
    "--kv-cache-bytes": ("1.5GB", 1_500_000_000),
    "--prefix-cache-bytes": ("512MiB", 512 << 20),
    "--prefix-cache-dir": ("prefixes", "prefixes"),
    "--speculation": ("off", "off"),
    "--draft-model": ("demo", "demo"),
    "--num-draft-tokens": ("4", 4),
    "--chat-template": ("{{ messages }}", "{{ messages }}"),
    "--form-timeout": ("20", 20.0),
    "--min-ranks": ("1", 1),
    "--recover-seconds": ("30", 30.0),
    "--drain-seconds": ("5", 5.0),
    "--silence-timeout": ("2.5", 2.5),
    "--trace": ("trace.json", "trace.json"),
    "--log-level": ("debug", "debug"),
    "--log-format": ("json", "json"),
    "--log-prompts": ("", True),
}


def served(*words: str) -> Settings:
    return settings_from(parser().parse_args(["serve", *words]), {})


def commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def options(command: argparse.ArgumentParser) -> set[str]:
    return {name for action in command._actions for name in action.option_strings}


def test_without_flags_all_is_as_the_settings_say() -> None:
    assert served() == msgspec.structs.replace(Settings(), place=Place())


@pytest.mark.parametrize("flag", [name for flag in FLAGS for name in flag.names if name != "--backend"])
def test_each_flag_sets_its_setting(flag: str) -> None:
    word, value = EXAMPLES[flag]
    (field,) = (each.field for each in FLAGS if flag in each.names)
    assert served(*filter(None, (flag, word))) == msgspec.structs.replace(Settings(), **{field: value})


@pytest.mark.parametrize("command", ["serve", "launch", "check"])
def test_help_tells_every_setting_and_its_default(command: str) -> None:
    text = commands()[command].format_help()
    fields = {field.name for field in msgspec.structs.fields(Settings)} - {"place", "task"}
    assert fields == {flag.field for flag in FLAGS} - {"backend"}
    for flag in FLAGS:
        assert all(re.search(rf"{name}\b", text) for name in flag.names)
    assert "(default: 8100)" in text
    assert "example" in text


def test_readme_and_help_know_the_same_flags() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    tables = [line for line in readme.splitlines() if line.startswith("| `-")]
    told = {name for line in tables for name in re.findall(r"`(--?[a-z][a-z-]*)`", line.split("|")[1])}
    known = set().union(*(options(command) for command in commands().values()))
    assert told == known - {"-h", "--help"}


def test_readme_tells_the_defaults() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    of_serve = readme.partition("Of `serve`")[2].partition("\nOf `hosts`")[0]
    told = {
        line.split("|")[1].split("`")[1]: line.split("|")[2].strip(" `")
        for line in of_serve.splitlines()
        if line.startswith("| `--")
    }
    for flag in FLAGS:
        default = commands()["serve"].get_default(flag.field)
        if default not in (None, (), -1) and default is not False:
            assert told[flag.names[0]] == str(default)


def test_flags_with_several_values_may_be_repeated() -> None:
    assert served("--api-key", "a,b", "--api-key=c").api_keys == ("a", "b", "c")
    assert served("--alias", "a", "--model-name", "b").model_names == ("a", "b")


def test_keys_of_the_environment_are_added() -> None:
    words = parser().parse_args(["serve", "--api-key", "a"])
    assert settings_from(words, {"MLXSERVE_API_KEY": "b,c"}).api_keys == ("a", "b", "c")


def test_check_without_a_model_names_none() -> None:
    checked = settings_from(parser().parse_args(["check"]), {})
    assert checked == msgspec.structs.replace(Settings(), task="check", model="")
    assert served().model == DEFAULT_MODEL


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--port", "70000"], "argument --port: must be a whole number from 0 to 65535, not '70000'"),
        (["--port", "http"], "argument --port: must be a whole number from 0 to 65535, not 'http'"),
        (["--temp", "-1"], "argument --temp: must be a number 0 or more, not '-1'"),
        (["--temp", "nan"], "argument --temp: must be a number 0 or more, not 'nan'"),
        (["--top-p", "0"], "argument --top-p: must be a number above 0 and at most 1, not '0'"),
        (["--min-p", "2"], "argument --min-p: must be a number 0 or more and at most 1, not '2'"),
        (["--decode-concurrency", "0"], "must be a whole number, 1 or more, not '0'"),
        (["--split", "14,0"], "must be layers per rank such as 14,14, each 1 or more, not '14,0'"),
        (["--split", "14,14"], "--split names layers for 2 ranks, but there is 1: name one number a rank"),
        (["--memory-limit", "8GB,0"], "must be numbers of bytes above 0 such as 12GB or 8GB,24GB, not '8GB,0'"),
        (
            ["--memory-limit", "8GB,8GB"],
            "--memory-limit names sizes for 2 ranks, but there is 1: name",
        ),
        (["--model", ""], "argument --model: must not be empty"),
        (["--dtype", "int3"], "argument --dtype: invalid choice: 'int3'"),
        (["--mod", "demo"], "unrecognized arguments: --mod demo"),
        (["--api-key", ""], "argument --api-key: must be a key of printable ASCII characters without spaces"),
        (["--api-key", "a,,b"], "argument --api-key: must be a key"),
        (["--api-key", "two words"], "argument --api-key: must be a key"),
        (["--api-key-file", "/none/keys"], "--api-key-file /none/keys cannot be read: No such file or directory"),
        (["--cors-origin", "example.com"], "must be an origin such as https://example.com or http://localhost:3000"),
        (["--cors-origin", "https://example.com/path"], "without a path, not 'https://example.com/path'"),
        (["--allowed-host", "mini.local:8100"], "without a port, not 'mini.local:8100'"),
        (["--ssl-certfile", "/none/it.pem"], "--ssl-certfile /none/it.pem and the key in it cannot be used"),
        (["--ssl-keyfile", "/none/it.key"], "--ssl-keyfile is given without --ssl-certfile"),
        (["--form-timeout", "inf"], "must be a number above 0, not 'inf'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("mlxserve: error: ")
    assert sentence in errors
    assert errors.count("\n") == 1


def test_a_missing_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "COMMAND" in capsys.readouterr().err


def test_errors_are_user_errors() -> None:
    with pytest.raises(UserError):
        parser().parse_args(["serve", "--nonsense"])


def test_help_comes_without_loading_mlx() -> None:
    program = (
        "import sys; from mlxserve.__main__ import run\n"
        "try: run(['--help'])\n"
        "except SystemExit: print(sorted({'mlx', 'mlx_lm', 'uvicorn', 'starlette', 'asyncio'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.endswith("[]\n")
    assert "engine" not in output


@pytest.mark.parametrize("word", ["version", "--version"])
def test_version_names_what_must_be_equal(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert run([word]) == 0
    assert re.fullmatch(
        r"mlxserve \S+\nbuild source-[0-9a-f]{12}\nmlx \S+ \(\w+\)\nmlx-lm \S+\nPython \S+\nprogram /\S+\n",
        capsys.readouterr().out,
    )


def test_version_comes_without_loading_mlx() -> None:
    program = "import sys; from mlxserve.__main__ import run; run(['version']); print('mlx.core' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.endswith("\nFalse\n")


def test_a_fallback_needs_to_be_told_where_the_ring_is() -> None:
    words = parser().parse_args(["serve", "--fallback", "ring"])
    with pytest.raises(UserError, match="started for mpi, and MLXSERVE_FALLBACK_HOSTFILE names no ring: start them"):
        settings_from(words, {"PMI_RANK": "0", "PMI_SIZE": "2"})
    assert settings_from(words, {}).fallback == "ring"
