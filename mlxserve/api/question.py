"""What a client asks, whichever API it speaks; and from there to generations that are ready to run."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from mlxserve.api.errors import ApiError
from mlxserve.api.form import made
from mlxserve.api.serving import Serving
from mlxserve.config import Settings
from mlxserve.engine.messages import Ready, Sampling
from mlxserve.text.conversation import Message
from mlxserve.text.format import Tools
from mlxserve.text.generation import Generation, Task
from mlxserve.text.grammar import after_reasoning, calls_schema, json_grammar
from mlxserve.text.template import Chat, PromptRefused
from mlxserve.text.tokenizer import Tokenizer

MOST_SEED = 2**63 - 1
QUICK_TEXT = 2**18
"""Characters that are encoded within half a second, so that their tokens may as well be counted."""


class Draw(msgspec.Struct, frozen=True):
    """How tokens are to be drawn; None where the server's default is meant."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None

    def sampling(self, settings: Settings, number: int = 0) -> Sampling:
        """As the engine has it, for the answer with this number; a seed is drawn if none is given."""
        seed = secrets.randbits(63) if self.seed is None else self.seed
        seed = (seed + number) & MOST_SEED if number else seed
        return Sampling(
            seed=seed,
            temperature=settings.temperature if self.temperature is None else self.temperature,
            top_p=settings.top_p if self.top_p is None else self.top_p,
            top_k=max(0, settings.top_k if self.top_k is None else self.top_k),
            min_p=settings.min_p if self.min_p is None else self.min_p,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            logit_bias=list((self.logit_bias or {}).items()),
        )


class Question(msgspec.Struct, frozen=True):
    """A conversation to be answered, and how."""

    messages: list[Message]
    draw: Draw = Draw()
    max_tokens: int = 0
    """0: as many as fit, or the server's default."""
    stop: list[str] = []
    n: int = 1
    tools: Tools = []
    tool_choice: Literal["none", "auto", "required"] = "auto"
    parallel_tool_calls: bool = True
    grammar: Callable[[], str] | None = None
    """Makes the grammar that the answer must follow; may raise GrammarRefused."""
    grammar_field: str = "response_format"
    variables: dict[str, Any] = {}
    """Of the chat template."""
    continued: bool = False
    top_logprobs: int = -1
    messages_field: str = "messages"
    """What the API calls the conversation, for errors."""


class PromptTooLong(ApiError):
    """400: the prompt has `tokens` tokens, or more, and `most` leave room for an answer."""

    def __init__(self, ready: Ready, tokens: int, found: str, field: str) -> None:
        message = f"The model's context holds {ready.context_length} tokens, but {found}."
        super().__init__(400, message, param=field, code="context_length_exceeded")
        self.tokens = tokens
        self.most = ready.context_length - 1


async def asked(serving: Serving, question: Question, body_size: int) -> Task:
    """All but the sampling; the prompt may be too long to be read. Raises ApiError: 400 if there is none, 503."""
    tokenizer, ready = serving.require_ready()
    if len(question.messages) > ready.context_length:  # a token each at least: not worth rendering
        count = len(question.messages)
        raise PromptTooLong(ready, count, f"there are {count} messages", question.messages_field)
    simple = question.grammar is None and not question.tools
    return await serving.in_thread(
        lambda: _task(tokenizer, ready, question), body_size if simple else serving.body_limit
    )


async def generations(serving: Serving, question: Question, body_size: int, client: str) -> list[Generation]:
    """One for each answer, ready to run; `client` asks.

    Raises ApiError: 400 where it cannot be asked, 429 where too many wait, 503 if no engine serves.
    """
    task = await asked(serving, question, body_size)
    tokenizer, ready = serving.require_room(client)
    check_prompt(ready, task.prompt, question.messages_field)
    check_bias(ready, question.draw)
    space = ready.context_length - len(task.prompt)
    limit = min(space, question.max_tokens or serving.settings.max_tokens or space)
    task = msgspec.structs.replace(task, max_tokens=limit, client=client)
    samplings = [question.draw.sampling(serving.settings, number) for number in range(question.n)]
    return [serving.generation(tokenizer, msgspec.structs.replace(task, sampling=one)) for one in samplings]


def check_prompt(ready: Ready, prompt: list[int], field: str) -> None:
    """400 unless the model can read `prompt` and has room for a token after it."""
    if len(prompt) >= ready.context_length:
        found = f"the {field} {'is' if field.startswith('prompt') else 'are'} {len(prompt)} tokens long"
        raise PromptTooLong(ready, len(prompt), found, field)
    if not prompt or not 0 <= min(prompt) <= max(prompt) < ready.vocab_size:
        message = f"'{field}' becomes a prompt that the model cannot read ({len(prompt)} tokens)."
        raise ApiError(400, message, param=field, code="invalid_prompt")


def check_bias(ready: Ready, draw: Draw) -> None:
    """400 if a bias is for a token that there is not."""
    for token in draw.logit_bias or {}:
        if not 0 <= token < ready.vocab_size:
            message = f"'logit_bias' names token {token}, but the model's tokens are 0 to {ready.vocab_size - 1}."
            raise ApiError(400, message, param="logit_bias", code="invalid_value")


def chat_of(question: Question) -> Chat:
    """What the chat template makes the prompt of."""
    offered = question.tools if question.tool_choice != "none" else []
    return Chat(question.messages, offered, question.variables, question.continued)


def check_length(tokenizer: Tokenizer, ready: Ready, text: str, field: str) -> None:
    """400 for a text that cannot fit into the model's context however it is encoded: that would take long."""
    if len(text) <= QUICK_TEXT:
        return
    if (fewest := tokenizer.fewest_tokens(text)) >= ready.context_length:
        found = f"the {field} {'is' if field.startswith('prompt') else 'are'} at least {fewest} tokens long"
        raise PromptTooLong(ready, fewest, found, field)


def _task(tokenizer: Tokenizer, ready: Ready, question: Question) -> Task:
    """All but the sampling; with borders, which prefixes need that cannot be cut. Raises ApiError."""
    chat = chat_of(question)
    offered = chat.tools
    try:
        prompt = tokenizer.chat_template.encode(
            chat, lambda text: check_length(tokenizer, ready, text, question.messages_field)
        )
    except PromptRefused as error:
        raise ApiError(400, str(error), param=question.messages_field, code="invalid_messages") from None
    thinking = tokenizer.is_thinking(prompt)
    forced = bool(offered) and question.tool_choice == "required"
    return Task(
        prompt=prompt,
        stop=question.stop,
        top_logprobs=question.top_logprobs,
        grammar=_grammar(tokenizer, question, offered if forced else [], thinking),
        reads_marks=True,
        tools=offered,
        calls_forced=forced,
        thinking=thinking,
        continues=question.continued,
        borders=[] if ready.cuttable else tokenizer.shared_beginnings.borders(chat, prompt),
    )


def _grammar(tokenizer: Tokenizer, question: Question, forced: Tools, thinking: bool) -> str:
    if forced:
        grammar = made("tools", lambda: json_grammar(calls_schema(forced, question.parallel_tool_calls)))
    elif question.grammar is not None:
        grammar = made(question.grammar_field, question.grammar)
    else:
        return ""
    return after_reasoning(grammar, tokenizer.format, tokenizer.think_end_tokens) if thinking else grammar
