"""A request's answer while it is written, whole or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from mlxserve.api.answer import Identity
from mlxserve.api.completions.request import CompletionRequest
from mlxserve.api.completions.shape import Choice, Completion, choice_of, new_id, timings, usage_of
from mlxserve.api.completions.writer import ChoiceWriter, Part
from mlxserve.api.merge import merged
from mlxserve.text.pieces import PromptRead


class Answer:
    """The choices of one request: `candidates` for each prompt, in the order of the prompts."""

    def __init__(self, model: str, request: CompletionRequest, writers: list[ChoiceWriter], started: float) -> None:
        self.identity = Identity(model, new_id())
        self.generations = [writer.generation for writer in writers]
        self._request = request
        self._writers = writers
        self._started = started

    def progress(self) -> str:
        """How far the engine has come with the prompts."""
        read = sum(generation.prompt_tokens_read for generation in self.generations)
        total = sum(len(generation.prompt) for generation in self.generations)
        return f"{read} of {total} prompt tokens read"

    async def body(self) -> bytes:
        """The whole answer, when all is written."""
        parts: list[list[Part]] = [[] for _ in self._writers]
        async for index, part, _ in self._parts():
            if isinstance(part, Part):
                parts[index].append(part)
        choices = [
            choice_of(index, parts[number], self._writers[number].finish_reason)
            for index, number in enumerate(self._chosen())
        ]
        answer = self._completion(choices)
        answer.usage = usage_of(self._writers, self._request.candidates)
        answer.timings = timings(self._writers[0], self._started)
        return msgspec.json.encode(answer)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The stream's chunks; the reason why a choice ends comes in one of its own."""
        encoder = msgspec.json.Encoder()
        async for index, part, last in self._parts(bool(self._request.return_progress)):
            if isinstance(part, PromptRead):
                chunk = self._chunk(Choice(index))
                chunk.prompt_progress = part
                yield _event(encoder, chunk)
            elif part:
                yield _event(encoder, self._chunk(Choice(index, part.text, part.logprobs)))
            if last:
                chunk = self._chunk(Choice(index, finish_reason=self._writers[index].finish_reason))
                chunk.timings = timings(self._writers[index], self._started)
                yield _event(encoder, chunk)
        if self._request.includes_usage:
            chunk = self._chunk()
            chunk.usage = usage_of(self._writers, self._request.candidates)
            yield _event(encoder, chunk)

    async def _parts(self, progress: bool = False) -> AsyncGenerator[tuple[int, Part | PromptRead, bool], None]:
        """Each part as it comes, with its writer's number, and whether it is that one's last."""
        unbegun = set(range(len(self._writers)))
        async with aclosing(merged([generation.told(progress) for generation in self.generations])) as arriving:
            async for index, piece in arriving:
                writer = self._writers[index]
                if isinstance(piece, PromptRead):
                    yield index, piece, False
                    continue
                if index in unbegun:
                    unbegun.discard(index)
                    yield index, writer.begin(), False
                yield index, writer.end() if piece is None else writer.write(piece), piece is None

    def _chosen(self) -> list[int]:
        """The writers that are told: of each prompt's candidates the likeliest, as many as are wanted."""
        candidates, answers = self._request.candidates, self._request.answers
        chosen: list[int] = []
        for first in range(0, len(self._writers), candidates):
            numbers = range(first, first + candidates)
            best_first = sorted(numbers, key=self._mean_logprob, reverse=True) if self._request.ranked else numbers
            chosen += list(best_first)[:answers]
        return chosen

    def _mean_logprob(self, number: int) -> float:
        logprobs = [one.token.logprob for one in self._writers[number].generation.logprobs]
        return sum(logprobs) / max(1, len(logprobs))

    def _chunk(self, *choices: Choice) -> Completion:
        chunk = self._completion(list(choices))
        if self._request.includes_usage:
            chunk.usage = None
        return chunk

    def _completion(self, choices: list[Choice]) -> Completion:
        return Completion(self.identity.id, self.identity.created, self.identity.model, choices)


def _event(encoder: msgspec.json.Encoder, chunk: Completion) -> bytes:
    return b"data: " + encoder.encode(chunk) + b"\n\n"
