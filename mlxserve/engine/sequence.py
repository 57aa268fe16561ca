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
    tokens: list[int] = field(default_factory=list)
    """The prompt, and what was generated and looked at so far."""
    read: int = 0
    """How many tokens have entered the pipeline: of `tokens`, and on one rank perhaps one more."""
    cached: int = 0
    """Of those, the ones that a stored prefix had."""
    sampled: int = 0
    """Tokens drawn, among them the one that may not have been looked at yet."""
    emitted: int = 0
    """Tokens told to the node."""
    done: bool = field(default=False)
    """Finished or cancelled: its row is dropped at the next occasion."""
    put_back: bool = False
    """It leaves its row for want of memory: its tokens are read again later."""
    top_logprobs: int = -1
    """How many alternatives are told with each token; -1: not even the token's own log-probability."""
    prompt_logprobs: bool = False
    borders: list[int] = field(default_factory=list)
    """Lengths of beginnings of the prompt that others are likely to share."""
    client: str = ""
    penalties: Penalties | None = None
    matcher: Matcher | None = None
    """Set once its grammar is compiled, before the scheduler gets the sequence."""
    grammar_error: str = ""
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
            tokens=[*submit.prompt, *submit.answered],
            sampled=len(submit.answered),
            emitted=len(submit.answered),
            top_logprobs=submit.top_logprobs,
            prompt_logprobs=submit.prompt_logprobs,
            borders=submit.borders,
            client=submit.client,
            penalties=penalties_of(submit.sampling, submit.prompt, submit.answered),
        )

    @property
    def answered(self) -> list[int]:
        """What was generated and looked at so far."""
        return self.tokens[len(self.prompt) :]

    @property
    def unread(self) -> int:
        """Known tokens that have not entered the pipeline."""
        return len(self.tokens) - self.read

    @property
    def tells_prompt(self) -> bool:
        """Whether the likelihoods of the prompt's tokens are still to be told."""
        return self.prompt_logprobs and self.emitted == 0

    @property
    def alive(self) -> bool:
        """Whether another token is to be drawn."""
        return not self.done and self.sampled < self.max_tokens

    @property
    def stays(self) -> bool:
        """Whether it keeps its row."""
        return self.alive and not self.put_back
