"""Is the binary small and quick enough? `python build/measure.py PROGRAM`

Times the way from start to the first answered chat, of PROGRAM and of `python -m mlxserve` in turns, with a tiny model.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlx.core as mx
from mlx_lm.models.qwen2 import Model, ModelArgs
from mlx_lm.utils import save_model

from mlxserve.models.source import find_model

LARGEST_MEGABYTES = 100.0
SLOWEST_RATIO = 1.3
"""Seconds of the binary over seconds of Python."""
STARTS = 5
"""Of each that count; the first, which unpacks files and fills caches, does not."""
PATIENCE = 120
"""Seconds that a start or an end may take."""
POLL_SECONDS = 0.02
SERVING = re.compile(r"serving at (\S+)")
CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 1024,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0}


def main() -> int:
    """Measure; 0 if both bounds are kept."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", metavar="PROGRAM", type=Path, help="the binary, or a frozen folder's executable")
    program: Path = arguments.parse_args().program.resolve()
    with tempfile.TemporaryDirectory(prefix="mlxserve-measure-") as folder:
        write_model(Path(folder))
        binary, python = in_turns([[str(program)], [sys.executable, "-m", "mlxserve"]], Path(folder))
    megabytes = program.stat().st_size / 1e6
    print(f"start to first answer: {binary:.2f} s, of `python -m mlxserve` {python:.2f} s (medians of {STARTS})")
    print(f"ratio: {binary / python:.2f} (at most {SLOWEST_RATIO})")
    print(f"size: {megabytes:.1f} MB (at most {LARGEST_MEGABYTES:.0f})")
    return int(binary > SLOWEST_RATIO * python or megabytes > LARGEST_MEGABYTES)


def in_turns(commands: list[list[str]], folder: Path) -> list[float]:
    """Median seconds of each command's starts, one of each after the other."""
    rounds = [[seconds_to_answer(command, folder) for command in commands] for _ in range(1 + STARTS)]
    return [statistics.median(seconds) for seconds in zip(*rounds[1:], strict=True)]


def seconds_to_answer(command: list[str], folder: Path) -> float:
    """From the start of `command` to its first answer; it is ended afterwards."""
    flags = ["serve", "--model", str(folder), "--model-name", str(QUESTION["model"]), "--port", "0"]
    started = time.monotonic()
    server = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        url = address(server)
        answer(url)
        return time.monotonic() - started
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE)


def address(server: subprocess.Popen[str]) -> str:
    """Where `server` serves, as soon as it says so."""
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        if found := SERVING.search(line):
            return found[1]
        said.append(line)
    raise SystemExit("the server ended before it served:\n" + "".join(said))


def answer(url: str) -> None:
    """Ask until there is a whole answer: while the tokenizer is loaded there is a 503."""
    body = json.dumps(QUESTION).encode()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            request = Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
            with urlopen(request, timeout=PATIENCE) as response:
                response.read()
            return
        except HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(POLL_SECONDS)
    raise SystemExit(f"no answer within {PATIENCE} s")


def write_model(folder: Path) -> None:
    """A small random qwen2 with the demo model's tokenizer, the same at every run."""
    demo = find_model("demo", lambda line: None).folder
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    mx.random.seed(0)
    save_model(folder, Model(ModelArgs.from_dict(CONFIG)))


if __name__ == "__main__":
    sys.exit(main())
