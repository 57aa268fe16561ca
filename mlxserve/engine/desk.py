"""Where the engine's orders come in: looked at, prepared, and handed to the scheduler."""

from __future__ import annotations

from pathlib import Path

from mlxserve.engine.channel import EngineChannel
from mlxserve.engine.compiler import GrammarCompiler
from mlxserve.engine.messages import Cancel, Failed, Ready, Submit
from mlxserve.engine.scheduler import Scheduler
from mlxserve.engine.sequence import Sequence

Order = Submit | Cancel | Sequence
"""What the node commands, or a sequence whose grammar has been compiled."""


class Desk:
    """Takes in orders. Belongs to the thread that runs the scheduler."""

    def __init__(self, scheduler: Scheduler, channel: EngineChannel, ready: Ready, folder: Path) -> None:
        """`folder` has the model's tokenizer."""
        self._scheduler = scheduler
        self._channel = channel
        self._ready = ready
        self._compiling: dict[int, Sequence] = {}
        self._compiler = GrammarCompiler(folder, channel.orders.put)

    def take(self, order: Order) -> None:
        """Carry out one order."""
        match order:
            case Submit():
                self._submit(order)
            case Cancel():
                self._compiling.pop(order.id, None)
                self._scheduler.cancel(order.id)
            case Sequence():
                self._compiled(order)

    def _submit(self, submit: Submit) -> None:
        if refusal := _refusal(submit, self._ready):
            self._channel.send(Failed(submit.id, refusal))
            return
        sequence = Sequence.of(submit)
        if submit.grammar:
            self._compiling[sequence.id] = sequence
            self._compiler.compile(sequence, submit.grammar)
        else:
            self._scheduler.add(sequence)

    def _compiled(self, sequence: Sequence) -> None:
        if self._compiling.pop(sequence.id, None) is None:
            return  # cancelled meanwhile
        if sequence.grammar_error:
            self._channel.send(Failed(sequence.id, sequence.grammar_error))
            return
        if sequence.matcher:
            for token in sequence.answered:
                sequence.matcher.accept(token)
        self._scheduler.add(sequence)


def _refusal(submit: Submit, ready: Ready) -> str:
    """Why this sequence cannot be taken on; the engine trusts nothing."""
    if not submit.prompt or submit.max_tokens < 1:
        return "a prompt and a bound on new tokens of at least one token each are needed"
    if len(submit.prompt) + submit.max_tokens > ready.context_length:
        return f"{len(submit.prompt)} + {submit.max_tokens} tokens exceed the context of {ready.context_length}"
    biased = [token for token, _ in submit.sampling.logit_bias]
    if not all(0 <= token < ready.vocab_size for token in [*submit.prompt, *biased]):
        return f"a token is outside the vocabulary of {ready.vocab_size}"
    if submit.top_logprobs >= ready.vocab_size:
        return f"there are only {ready.vocab_size} tokens to tell the log-probabilities of"
    return ""
