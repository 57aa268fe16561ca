"""One request's tokens on their way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlxserve.engine.messages import Sampling, Submit


@dataclass(eq=False)
class Sequence:
    """A prompt being read, then continued token by token."""

    id: int
    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    stop_tokens: frozenset[int]
    read: int = 0
    """Prompt tokens that have entered the pipeline."""
    sampled: int = 0
    """Tokens drawn, among them the one that may not have been looked at yet."""
    emitted: int = 0
    """Tokens told to the node."""
    done: bool = field(default=False)
    """Finished or cancelled: its row is dropped at the next occasion."""

    @classmethod
    def of(cls, submit: Submit) -> Sequence:
        """The sequence that the node asks for."""
        return cls(submit.id, submit.prompt, submit.sampling, submit.max_tokens, frozenset(submit.stop_tokens))

    @property
    def unread(self) -> int:
        """Prompt tokens that have not entered the pipeline."""
        return len(self.prompt) - self.read

    @property
    def alive(self) -> bool:
        """Whether another token is to be drawn."""
        return not self.done and self.sampled < self.max_tokens
