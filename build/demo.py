"""`make demo`: two ranks on this machine answer a question through the official OpenAI client."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from openai import OpenAI

QUESTION = "What is the capital of France?"
PATIENCE = 300
"""Seconds that loading may take, the first time on a slow machine."""


def main() -> int:
    """Run the demo; 0 if the answer names Paris."""
    port = free_port()
    print("Starting two ranks of one model on this machine ...", flush=True)
    with server(port):
        print(f"> {QUESTION}")
        answer = ask(port)
    if "Paris" not in answer:
        print("The answer does not name Paris.", file=sys.stderr)
        return 1
    print(HOW_TO_GO_ON)
    return 0


@contextmanager
def server(port: int) -> Iterator[None]:
    """`mlxserve launch -n 2`, from healthy to its clean end."""
    with tempfile.NamedTemporaryFile("w+", prefix="mlxserve-demo-", suffix=".log") as log:
        command = [
            Path(sys.executable).parent / "mlxserve",
            "launch",
            "-n",
            "2",
            "--model",
            "demo",
            "--port",
            str(port),
        ]
        launcher = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_until_healthy(port, launcher)
            yield
        except BaseException:
            print(Path(log.name).read_text(), file=sys.stderr)
            raise
        finally:
            launcher.send_signal(signal.SIGTERM)
            code = launcher.wait(10)
    if code != 0:
        sys.exit(f"the server ended with exit code {code}")


def wait_until_healthy(port: int, launcher: subprocess.Popen[bytes]) -> None:
    """Poll /health until it says healthy."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and launcher.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).json()["status"] == "healthy":
                return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.2)
    sys.exit("the server did not become healthy; this is what it wrote:")


def ask(port: int) -> str:
    """Ask the question and print the answer as it comes."""
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    stream = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": QUESTION}], stream=True, temperature=0, max_tokens=100
    )
    answer = ""
    for chunk in stream:
        piece = chunk.choices[0].delta.content or "" if chunk.choices else ""
        print(piece, end="", flush=True)
        answer += piece
    print()
    return answer


def free_port() -> int:
    """8100, or any free port where that is taken."""
    for port in (8100, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as found:
                return int(found.getsockname()[1])
        except OSError:
            continue
    raise RuntimeError("no free port")


HOW_TO_GO_ON = """
How to go on. Start it yourself:

    .venv/bin/mlxserve launch -n 2 --model demo

Then open http://127.0.0.1:8100/ or ask it from another terminal:

    curl http://127.0.0.1:8100/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"model": "demo", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'
"""

if __name__ == "__main__":
    sys.exit(main())
