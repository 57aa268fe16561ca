"""What is asked: kinds of conversations, told apart by a number, no two with the same beginning unless they should."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

Messages = list[dict[str, Any]]
Turns = list[Messages]
"""The messages of each request of one conversation."""

LONG_PROMPT_WORDS = 535
"""About 600 tokens."""
SHARED_WORDS = 940
"""About 1,000 tokens."""
AGENT_TURNS = 8
WORDS = (
    "teapot", "lighthouse", "glacier", "violin", "bakery", "comet", "harbour", "meadow", "engine", "library",
    "candle", "forest", "ladder", "market", "needle", "orchard", "pepper", "quarry", "river", "saddle",
    "tunnel", "umbrella", "valley", "window", "anchor", "bridge", "castle", "desert", "feather", "garden", ")",
)  # fmt: skip

CODE = """\
PRICES = [
    Price("teapot", amount=24.50, currency="EUR", taxed=True),
    Price("lighthouse", amount=310.00, currency="EUR", taxed=False),
    Price("violin", amount=899.90, currency="USD", taxed=True),
    Price("comet", amount=5.25, currency="GBP", taxed=True),
    Price("bakery", amount=71.00, currency="EUR", taxed=False),
    Price("harbour", amount=12.75, currency="USD", taxed=True),
    Price("engine", amount=450.00, currency="GBP", taxed=True),
    Price("library", amount=33.10, currency="EUR", taxed=False),
]
"""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Read some lines of a file.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "first": {"type": "integer"}, "last": {"type": "integer"}},
                "required": ["path"],
            },
        },
    }
]


class Workload(msgspec.Struct, frozen=True):
    """`turns` makes the conversation of a number; `at_once`: all are held at the same time, whatever --streams says."""

    name: str
    purpose: str
    turns: Callable[[int], Turns]
    tokens: int = 64
    """The bound on an answer where none is given."""
    tools: list[dict[str, Any]] = []
    at_once: bool = False


def _chat(number: int) -> Turns:
    return [[{"role": "system", "content": opening(number)}, _user(_question(number))]]


def _long_prompt(number: int) -> Turns:
    return [[{"role": "system", "content": opening(number)}, _user(f"Sum up: {prose(number, LONG_PROMPT_WORDS)}")]]


def _shared_prefix(number: int) -> Turns:
    system = f"You help the readers of this text. {prose(0, SHARED_WORDS)}"
    return [[{"role": "system", "content": system}, _user(_question(number))]]


def _agent(number: int) -> Turns:
    """The assistant's messages are the same whatever a server answers, so that all servers read the same prompts."""
    messages: Messages = [
        {"role": "system", "content": f"{opening(number)} Use the tools."},
        _user(f"Find out why the test of the {word(number)} fails."),
    ]
    turns = [list(messages)]
    for turn in range(1, AGENT_TURNS):
        call = f"call_{number}_{turn}"
        arguments = f'{{"path": "{word(number + turn)}.py", "first": {turn}}}'
        function = {"name": "read_file", "arguments": arguments}
        messages.append(
            {"role": "assistant", "content": "", "tool_calls": [{"id": call, "type": "function", "function": function}]}
        )
        messages.append({"role": "tool", "tool_call_id": call, "content": prose(number + turn, 60)})
        turns.append(list(messages))
    return turns


def _edit(number: int) -> Turns:
    """The answer is begun for the model, past the change, so that small models, too, go on with the code."""
    name = f"{word(number).upper()}_PRICES"
    task = f"Rename `PRICES` to `{name}` and repeat the whole code, nothing else:\n\n```python\n{CODE}```"
    begun = CODE.replace("PRICES", name).partition(', currency="USD"')[0]
    return [
        [
            {"role": "system", "content": opening(number)},
            _user(task),
            {"role": "assistant", "content": f"```python\n{begun}"},
        ]
    ]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("chat", "short prompts, all different", _chat),
        Workload("long-prompt", "prompts of about 600 tokens, short answers", _long_prompt, 8),
        Workload("shared-prefix", "a system prompt of about 1,000 tokens in common", _shared_prefix),
        Workload("agent", f"conversations of {AGENT_TURNS} turns that grow, with tool results", _agent, 32, TOOLS),
        Workload("burst", "all requests at once", _chat, at_once=True),
        Workload("edit", "code repeated with a small change", _edit, 160),
    )
}


class Asking(msgspec.Struct, frozen=True):
    """What all requests of a measurement have in common; `temperature` None leaves it to the server."""

    model: str = ""
    tokens: int = 0
    temperature: float | None = 0.0


def conversations(workload: Workload, asking: Asking, numbers: Iterator[int]) -> Iterator[list[bytes]]:
    """The requests' bodies of one conversation after another, for `numbers`."""
    for number in numbers:
        yield [_body(workload, asking, messages) for messages in workload.turns(number)]


def numbers_from(seed: int) -> Iterator[int]:
    """A number a conversation; those of another seed differ."""
    return itertools.count(100_000 + seed * 10_000)


def _body(workload: Workload, asking: Asking, messages: Messages) -> bytes:
    body: dict[str, Any] = {
        "messages": messages,
        "max_tokens": asking.tokens or workload.tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if asking.model:
        body["model"] = asking.model
    if asking.temperature is not None:
        body["temperature"] = asking.temperature
    if workload.tools:
        body["tools"] = workload.tools
    return msgspec.json.encode(body)


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def opening(number: int) -> str:
    """The number comes first, so that a server which keeps prefixes finds none."""
    return f"{number} is your number, and you are a helpful assistant who answers it."


def _question(number: int) -> str:
    return f"{number} things that a {word(number)} and a {word(number * 7 + 3)} have in common?"


def word(number: int) -> str:
    """One of the words that prompts are made of, another for the next number."""
    return WORDS[number % len(WORDS)]


def prose(number: int, words: int) -> str:
    """Text without sense whose words depend on `number`."""
    state, chosen = number * 2654435761 + 1, []
    for _ in range(words):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        chosen.append(WORDS[(state >> 33) % len(WORDS)])
    return " ".join(chosen)
