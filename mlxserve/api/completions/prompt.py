"""Prompts: from what a client sent to token ids."""

from __future__ import annotations

import msgspec

from mlxserve.api.completions.request import CompletionRequest
from mlxserve.api.errors import ApiError
from mlxserve.api.question import check_length, check_prompt
from mlxserve.engine.messages import Ready
from mlxserve.text.infill import Infill
from mlxserve.text.template import PromptRefused
from mlxserve.text.tokenizer import Tokenizer


class Prompt(msgspec.Struct, frozen=True):
    """What is to be continued."""

    tokens: list[int]
    text: str | None
    """As the client wrote it; None where it sent tokens."""


def read_prompts(tokenizer: Tokenizer, ready: Ready, request: CompletionRequest) -> list[Prompt]:
    """The request's prompts. Raises ApiError for one that the model cannot read."""
    infill = _infill(tokenizer) if request.suffix else None
    several = isinstance(request.prompt, list) and not isinstance(request.prompt[0], int)
    prompts = []
    for number, given in enumerate(request.prompts):
        field = f"prompt[{number}]" if several else "prompt"
        for text in (given, request.suffix):
            if isinstance(text, str):
                check_length(tokenizer, ready, text, field)
        prompt = _around(tokenizer, infill, given, request.suffix or "") if infill else _plain(tokenizer, given, field)
        check_prompt(ready, prompt.tokens, field)
        prompts.append(prompt)
    return prompts


def _plain(tokenizer: Tokenizer, given: str | list[int], field: str) -> Prompt:
    """A text's control tokens are read as such, and it begins as the tokenizer begins texts; ids are left alone."""
    if isinstance(given, list):
        return Prompt(given, None)
    tokens = tokenizer.encode(given)
    if not tokens and tokenizer.bos_token_id is not None:
        tokens = [tokenizer.bos_token_id]
    if not tokens:
        raise ApiError(400, f"'{field}' is empty, and the model has no token to begin with.", param=field)
    return Prompt(tokens, given)


def _around(tokenizer: Tokenizer, infill: Infill, before: str | list[int], after: str) -> Prompt:
    """The prompt for what stands between: source code, in which control tokens are text."""
    try:
        tokens = before if isinstance(before, list) else tokenizer.encode_plain(before)
        beginning = [] if isinstance(before, list) else tokenizer.encode("")
        return Prompt(beginning + infill.prompt(tokens, tokenizer.encode_within(after)), None)
    except PromptRefused as error:
        raise ApiError(400, str(error), param="prompt", code="invalid_prompt") from None


def _infill(tokenizer: Tokenizer) -> Infill:
    if tokenizer.infill is None:
        message = "'suffix' needs a model that was trained to fill gaps; this one's tokenizer has no tokens for that."
        raise ApiError(400, message, param="suffix", code="unsupported_parameter")
    return tokenizer.infill
