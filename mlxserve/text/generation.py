"""One answer under way: the engine's tokens, read as text."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from mlxserve.engine.client import EngineClient, Generated
from mlxserve.engine.messages import FinishReason, Likelihood, PromptLikelihoods, Reading, Sampling
from mlxserve.text.format import Tools, call_of
from mlxserve.text.output import OutputReader
from mlxserve.text.pieces import Content, Piece, PromptRead, TokenLogprob, ToolCall
from mlxserve.text.tokenizer import Tokenizer


class Task(msgspec.Struct, frozen=True):
    """What is to be generated, and how it is read."""

    prompt: list[int]
    sampling: Sampling = Sampling(0)
    max_tokens: int = 1
    stop: list[str] = []
    top_logprobs: int = -1
    """As in messages.Submit."""
    prompt_logprobs: bool = False
    grammar: str = ""
    reads_marks: bool = False
    """Whether reasoning and calls of `tools` are told apart from content."""
    tools: Tools = []
    calls_forced: bool = False
    """Whether the answer is a JSON list of calls, as `grammar.calls_schema` has it."""
    thinking: bool = False
    """Whether the prompt ends within the model's reasoning."""
    continues: bool = False
    """Whether the prompt ends within the answer."""
    borders: list[int] = []
    """As in messages.Submit, and so is the next."""
    client: str = ""


class Watcher(Protocol):
    """Somebody who counts what becomes of generations."""

    def reads(self, began: float) -> None:
        """The engine has begun to read a prompt, at that time by `time.perf_counter`."""
        ...

    def writes(self, tokens: int, seconds: float) -> None:
        """So many tokens came, so long after those before; 0: they are the first."""
        ...


class Generation:
    """Generates an answer to a prompt; what is known of it grows while `pieces` is iterated."""

    def __init__(self, engine: EngineClient, tokenizer: Tokenizer, task: Task) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._task = task
        format = tokenizer.format if task.reads_marks else None
        tools = [] if task.calls_forced else task.tools
        detokenizer = tokenizer.detokenizer(continues=task.continues or not task.reads_marks)
        self._reader = OutputReader(detokenizer, task.stop, format, tools, task.thinking)
        self._forced: list[str] = []
        self.prompt = task.prompt
        self.open = False
        """Whether it waits for the engine, or runs there."""
        self.over = False
        """Whether it was open, and is no more."""
        self.prompt_tokens_read = 0
        self.cached_tokens = 0
        """Of the prompt's tokens, those that the engine had read before, for others."""
        self.prompt_likelihoods: list[Likelihood] = []
        """Of the prompt's tokens from the second on, where they are asked for."""
        self.logprobs: list[TokenLogprob] = []
        """Of all its tokens, where they are asked for: the stop token and those of a stop string among them."""
        self.completion_tokens = 0
        """As vLLM and llama-server count: with the stop token, and with the tokens of a stop string."""
        self.finish_reason: FinishReason | None = None
        self.called_tools = False
        self.first_token_at = 0.0
        self.last_token_at = 0.0
        """Both by `time.perf_counter`; 0 until there is one."""
        self.watcher: Watcher | None = None
        self._number: int | None = None
        self._reading_since = 0.0

    @property
    def reasoning_tokens(self) -> int:
        """Tokens that the model spent on reasoning."""
        return self._reader.reasoning_tokens

    @property
    def progress(self) -> str:
        """How far its prompt is read, for people."""
        return f"{self.prompt_tokens_read} of {len(self.prompt)} prompt tokens read"

    @property
    def task(self) -> Task:
        """What was asked for."""
        return self._task

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn."""
        return self._task.sampling

    @property
    def found_stop_string(self) -> bool:
        """Whether a stop string ended it."""
        return self._reader.stopped

    @property
    def stop_string(self) -> str:
        """The one that ended it; empty if none did."""
        return self._reader.stop_string

    def pieces(self) -> AsyncGenerator[Piece, None]:
        """The answer as it comes. Closing the iterator ends the sequence. Raises what EngineClient.generate raises."""
        return self._told(progress=False)

    def told(self, progress: bool) -> AsyncGenerator[Piece | PromptRead, None]:
        """The same; with `progress` and before it how far the prompt is read."""
        return self._told(progress)

    async def _told(self, progress: bool) -> AsyncGenerator[Any, None]:
        task = self._task
        events = self._engine.generate(
            task.prompt,
            task.sampling,
            task.max_tokens,
            self._tokenizer.stop_tokens,
            task.top_logprobs,
            task.prompt_logprobs,
            task.grammar,
            task.borders,
            task.client,
            self._begun,
        )
        self.open = True
        try:
            async with aclosing(events):
                async for event in events:
                    match event:
                        case Reading():
                            self._note(event)
                            if progress:
                                yield self._prompt_read(event)
                        case PromptLikelihoods():
                            self.prompt_likelihoods += event.likelihoods
                        case Generated():
                            for piece in self._read(event):
                                yield piece
                    if self.finish_reason is not None:
                        break
        finally:
            self.open, self.over = False, True

    def _prompt_read(self, reading: Reading) -> PromptRead:
        elapsed = time.perf_counter() - self._reading_since
        return PromptRead(reading.total, self.cached_tokens, reading.done, round(1e3 * elapsed))

    def cancel(self) -> None:
        """Free its place in the engine at once; whoever iterates `pieces` gets RequestCancelled."""
        if self._number is not None:
            self._engine.cancel(self._number)

    def _begun(self, number: int) -> None:
        self._number = number

    def _note(self, reading: Reading) -> None:
        """Take down how far the prompt is read. It may be read again: what was cached at first counts."""
        if not self.prompt_tokens_read:
            self.cached_tokens = reading.cached
            self._reading_since = reading.began or time.perf_counter()
            if self.watcher:
                self.watcher.reads(self._reading_since)
        self.prompt_tokens_read = reading.done

    def _read(self, event: Generated) -> list[Piece]:
        now = time.perf_counter()
        if self.watcher and event.tokens:
            self.watcher.writes(len(event.tokens), now - self.last_token_at if self.last_token_at else 0.0)
        self.last_token_at = now
        self.first_token_at = self.first_token_at or self.last_token_at
        by_stop_token = event.finish == "stop"
        tokens = event.tokens[:-1] if by_stop_token else event.tokens
        logprobs = self._logprobs(event)
        self.logprobs += logprobs
        pieces = self._reader.read(tokens, logprobs)
        self.completion_tokens = self._reader.tokens_read
        if self._reader.stopped:
            self.finish_reason = "stop"
        elif event.finish is not None:
            self.completion_tokens += by_stop_token
            pieces += self._reader.finish()
            self.finish_reason = "stop" if self._reader.stopped else event.finish
        if self._task.calls_forced:
            pieces = self._forced_calls(pieces)
        self.called_tools = self.called_tools or any(isinstance(piece, ToolCall) for piece in pieces)
        return pieces

    def _logprobs(self, event: Generated) -> list[TokenLogprob]:
        return [
            self._tokenizer.logprob(token, one.logprob, one.top)
            for token, one in zip(event.tokens, event.likelihoods, strict=False)  # none at all, or one for each
        ]

    def _forced_calls(self, pieces: list[Piece]) -> list[Piece]:
        """`pieces` without content, which is JSON; at the end, its calls. What is no whole call, alone, is content."""
        self._forced += [piece.text for piece in pieces if isinstance(piece, Content)]
        others: list[Piece] = [piece for piece in pieces if not isinstance(piece, Content)]
        if self.finish_reason is None:
            return others
        text = "".join(self._forced)
        calls = _whole_calls(text)
        return [*others, *calls] if calls or not text else [*others, Content(text)]


def _whole_calls(text: str) -> list[ToolCall]:
    """Those of a JSON list, which may have been cut off."""
    calls, decoder, at = list[ToolCall](), json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            call, end = decoder.raw_decode(text, at)
            calls.append(call_of(call))
        except ValueError:
            break
        at = text.find("{", end)
    return calls
