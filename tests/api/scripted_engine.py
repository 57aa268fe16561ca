"""An engine process's side of the conversation with the real EngineClient: what it says is written by the test."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mlxserve.engine import messages
from mlxserve.engine.client import EngineClient
from mlxserve.engine.messages import (
    Cancel,
    Command,
    FinishReason,
    Likelihood,
    NewToken,
    PromptLikelihoods,
    RankFacts,
    Reading,
    Ready,
    Step,
    Submit,
)

RANKS = [
    RankFacts(0, "mini-1", 11, "M4", 0, 13, 1_700_000_000, 1_900_000_000, 21.3, 0.5),
    RankFacts(1, "mini-2", 12, "M4", 14, 27, 1_600_000_000, 1_800_000_000, 21.3, 0.4),
]


class ScriptedEngine:
    """Answers each submitted sequence with `script`, a token a step; with no script the test speaks itself."""

    def __init__(self) -> None:
        self.client = EngineClient()
        self.script: list[int] | None = []
        self.finish: FinishReason = "stop"
        self.likelihood: Likelihood | None = None
        """Told with each token, where the test sets it."""
        self.cached: list[int] = []
        """Of the prompts of sequences to come, one after the other, the tokens found in the cache."""
        self.submitted: asyncio.Queue[Submit] = asyncio.Queue()
        self.cancelled: asyncio.Queue[int] = asyncio.Queue()

    def connect(self, missing: str = "") -> None:
        """As the node does when it has started an engine process."""
        self.client.connected(self._take, (0, 1), missing)

    def find_model(self, folder: Path) -> None:
        self.client.receive(messages.ModelFound(str(folder)))

    def become_ready(
        self, context_length: int = 1000, vocab_size: int = 320, cuttable: bool = True, batched: bool = True
    ) -> None:
        ready = Ready(
            model_type="qwen3",
            vocab_size=vocab_size,
            context_length=context_length,
            backend="ring",
            layers=28,
            batched=batched,
            cuttable=cuttable,
            ranks=RANKS,
        )
        self.client.receive(ready)

    def say(self, number: int, *tokens: int, finish: FinishReason | None = None) -> None:
        """A step for each of `tokens`; `finish` with the last."""
        for i, token in enumerate(tokens):
            last = finish if i == len(tokens) - 1 else None
            self.client.receive(Step([NewToken(number, token, last, self.likelihood)], []))

    def _take(self, command: Command) -> None:
        match command:
            case Submit():
                self.submitted.put_nowait(command)
                if self.script is not None:
                    asyncio.get_running_loop().call_soon(self._answer, command)
            case Cancel():
                self.cancelled.put_nowait(command.id)

    def tell_prompt(self, command: Submit) -> None:
        """The likelihoods of the prompt's tokens, if they are asked for: -1 for the second, -2 for the third…"""
        if command.prompt_logprobs:
            told = [Likelihood(-1.0 - i, [(token, -0.5), (0, -1.5)]) for i, token in enumerate(command.prompt[1:])]
            self.client.receive(Step([], [], [PromptLikelihoods(command.id, told)]))

    def _answer(self, command: Submit) -> None:
        self._read(command)
        self.tell_prompt(command)
        tokens = list(self.script or [])
        tokens += command.stop_tokens[-1:] if self.finish == "stop" else []
        finish = self.finish
        if len(tokens) > command.max_tokens:
            tokens, finish = tokens[: command.max_tokens], "length"
        self.say(command.id, *tokens, finish=finish)

    def _read(self, command: Submit) -> None:
        cached, total = self.cached.pop(0) if self.cached else 0, len(command.prompt)
        self.client.receive(Step([], [Reading(command.id, cached, total, cached)]))
        self.client.receive(Step([], [Reading(command.id, total, total)]))
