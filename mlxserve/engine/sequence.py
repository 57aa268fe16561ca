"""One request's tokens on their way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlxserve.engine.messages import Sampling, Submit
from mlxserve.engine.penalties import Penalties, penalties_of

if TYPE_CHECKING:
    from mlxserve.engine.grammar import Matcher
    from mlxserve.engine.speculation import Speculated


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
    top_logprobs: int = -1
    """How many alternatives are told with each token; -1: not even the token's own log-probability."""
    prompt_logprobs: bool = False
    penalties: Penalties | None = None
    matcher: Matcher | None = None
    """Set once its grammar is compiled, before the scheduler gets the sequence."""
    grammar_error: str = ""
    tokens: list[int] = field(default_factory=list)
    """Prompt and answer, as far as they are known."""
    speculated: Speculated | None = None
    """What is guessed of it, once it was looked at."""

    @classmethod
    def of(cls, submit: Submit) -> Sequence:
        """The sequence that the node asks for."""
        return cls(
            id=submit.id,
            prompt=submit.prompt,
            sampling=submit.sampling,
            max_tokens=submit.max_tokens,
            stop_tokens=frozenset(submit.stop_tokens),
            top_logprobs=submit.top_logprobs,
            prompt_logprobs=submit.prompt_logprobs,
            penalties=penalties_of(submit.sampling, submit.prompt),
            tokens=list(submit.prompt),
        )

    @property
    def unread(self) -> int:
        """Prompt tokens that have not entered the pipeline."""
        return len(self.prompt) - self.read

    @property
    def alive(self) -> bool:
        """Whether another token is to be drawn."""
        return not self.done and self.sampled < self.max_tokens
