"""The flags of `mlxserve chat`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from mlxserve.chat.request import ChatRequest
from mlxserve.flags import number, text, whole
from mlxserve.keys import first_key

URL = "http://localhost:8100"

EPILOG = """\
In a conversation:
  Enter sends; Alt+Enter begins a new line, and what is pasted keeps its lines; up and down bring earlier messages back
  Ctrl-C stops an answer that is being written, and what came of it stays; Ctrl-D ends
  /help tells the commands: another answer, another system prompt, settings, saving

examples:
  mlxserve chat
  mlxserve chat http://mini-1:8100 --system "Answer in one sentence."
  mlxserve chat --temperature 0 --question "What is the capital of France?"
  git diff | mlxserve chat --system "Write a commit message."
"""


def add_chat_flags(parser: argparse.ArgumentParser) -> None:
    """The address and the flags."""
    parser.add_argument(
        "url", metavar="URL", nargs="?", type=text, default=URL,
        help=f"any server with OpenAI's chat API (default: {URL})",
    )  # fmt: skip
    parser.add_argument(
        "--question", metavar="TEXT", type=text, help="ask this, print the answer and end; what is piped in is asked so"
    )
    parser.add_argument("--model", metavar="NAME", type=text, help="the model's name (default: the one that is served)")
    parser.add_argument("--api-key", metavar="KEY", type=text, help="the server's key; also read from MLXSERVE_API_KEY")
    parser.add_argument("--system", metavar="TEXT", type=text, help="the system prompt")
    parser.add_argument("--temperature", metavar="T", type=number(0, 2), help="how freely tokens are drawn, 0 to 2")
    parser.add_argument("--top-p", metavar="P", type=number(0, 1, above=True), help="of the likeliest tokens, 0 to 1")
    parser.add_argument("--max-tokens", metavar="N", type=whole(1), help="the most tokens of an answer")
    parser.add_argument("--seed", metavar="N", type=whole(0), help="the same answers with the same number")


def chat_request_from(args: argparse.Namespace, environment: Mapping[str, str]) -> ChatRequest:
    """What the flags ask for."""
    return ChatRequest(
        url=args.url,
        question=args.question or "",
        model=args.model or "",
        api_key=args.api_key or first_key(environment),
        system=args.system or "",
        temperature=args.temperature,
        top_p=args.top_p,
        max_tokens=args.max_tokens,
        seed=args.seed,
    )
