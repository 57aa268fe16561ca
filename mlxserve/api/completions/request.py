"""The body of POST /v1/completions, as a type."""

from __future__ import annotations

from typing import Annotated, Any, cast

from msgspec import Meta

from mlxserve.api.errors import ApiError
from mlxserve.api.fields import Answers, CommonFields

DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""

MOST_SEQUENCES = 2048
"""Answers that one request may have computed."""

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]


class CompletionRequest(CommonFields, kw_only=True):
    """What OpenAI's reference names, as far as it can matter here, and what vLLM and llama-server add.

    Other fields are ignored.
    """

    prompt: str | list[str | TokenId | list[TokenId]] | None
    """One text, or one list of token ids; or several of either. Null: an empty text."""
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    best_of: Answers | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    suffix: str | None = None

    # What would change the answer and cannot be done: refused unless it asks for nothing (see NOTHING).
    prompt_embeds: Any = None
    prompt_logprobs: Any = None
    use_beam_search: Any = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt. Raises ApiError for a list that is empty, or mixed."""
        if not isinstance(self.prompt, list):
            return [self.prompt or ""]
        kinds = {type(one) for one in self.prompt}
        if len(kinds) != 1:
            reason = "must be texts, token ids or lists of token ids, all of one kind" if kinds else "is an empty list"
            raise _wrong("prompt", reason)
        return [cast("list[int]", self.prompt)] if kinds == {int} else cast("list[str | list[int]]", self.prompt)

    @property
    def answers(self) -> int:
        """How many answers a prompt gets."""
        return self.n or 1

    @property
    def candidates(self) -> int:
        """How many a prompt's answers are chosen from."""
        return self.best_of or self.answers

    @property
    def ranked(self) -> bool:
        """Whether the answers are the best of more."""
        return self.candidates > self.answers

    @property
    def new_tokens(self) -> int:
        """The bound on an answer's tokens."""
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens

    def check(self) -> None:
        """Raise ApiError where fields contradict each other, or together ask for too much."""
        if self.candidates < self.answers:
            raise _wrong("best_of", "must not be less than 'n'")
        if self.ranked and self.stream:
            raise _wrong("best_of", "cannot be streamed: which answers are best is known at the end")
        if self.max_tokens == 0 and not self.echo:
            raise _wrong("max_tokens", "can be 0 only where 'echo' is true")
        if self.suffix and self.echo:
            raise _wrong("suffix", "excludes 'echo': the answer stands within the text")
        many = len(self.prompts) > MOST_SEQUENCES
        if many or len(self.prompts) * self.candidates > MOST_SEQUENCES:
            field = "prompt" if many else "best_of" if self.best_of else "n"
            raise _wrong(field, f"asks for more answers than the {MOST_SEQUENCES} that one request may have")


NOTHING: dict[str, tuple[Any, ...]] = {
    "prompt_embeds": (),
    "prompt_logprobs": (False,),
    "use_beam_search": (False,),
}
"""As in fields.NOTHING."""


def _wrong(field: str, reason: str) -> ApiError:
    return ApiError(400, f"'{field}' {reason}.", param=field, code="invalid_value")
