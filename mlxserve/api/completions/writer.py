"""One choice of an answer, part by part: the same parts make a stream and, joined, a whole answer."""

from __future__ import annotations

import msgspec

from mlxserve.api.completions.likelihoods import Logprobs, Position, name_of, prompt_offsets
from mlxserve.api.completions.prompt import Prompt
from mlxserve.engine.messages import FinishReason
from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Content, Piece
from mlxserve.text.tokenizer import Tokenizer


class Part(msgspec.Struct):
    """A part of a choice; perhaps empty."""

    text: str = ""
    logprobs: Logprobs | None = None

    def __bool__(self) -> bool:
        return bool(self.text or (self.logprobs and self.logprobs.tokens))


class ChoiceWriter:
    """Tells what one generation writes, and on demand the prompt before it and all log-probabilities."""

    def __init__(
        self, tokenizer: Tokenizer, prompt: Prompt, generation: Generation, *, echo: bool, logprobs: bool, silent: bool
    ) -> None:
        """`silent`: of what is generated nothing is told."""
        self.generation = generation
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._echo = echo
        self._logprobs = logprobs
        self._silent = silent
        self._length = 0
        """Characters told."""
        self._next = 0
        """The first token that is not told yet."""
        self._position = Position()
        """Its place in the text."""

    @property
    def completion_tokens(self) -> int:
        """How many tokens were generated for the client."""
        return 0 if self._silent else self.generation.completion_tokens

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended."""
        return "length" if self._silent else self.generation.finish_reason or "stop"

    def begin(self) -> Part:
        """The prompt, where it is to be told. Comes first, when the engine has read the prompt."""
        if not self._echo:
            return Part()
        tokens = [self._tokenizer.bytes_of(token) for token in self._prompt.tokens]
        text = self._prompt.text
        if text is None:
            text = b"".join(tokens).decode(errors="replace")
        self._length = len(text)
        self._position = Position(len(text))
        return Part(text, self._prompt_logprobs(prompt_offsets(tokens, text)) if self._logprobs else None)

    def write(self, piece: Piece) -> Part:
        """The next piece of the answer."""
        if self._silent or not isinstance(piece, Content):
            return Part()
        self._length += len(piece.text)
        return Part(piece.text, self._new_logprobs(all_left=False))

    def end(self) -> Part:
        """What is left when the generation is finished: tokens without text, such as the one that ended it."""
        return Part("", None if self._silent else self._new_logprobs(all_left=not self.generation.found_stop_string))

    def _prompt_logprobs(self, offsets: list[int]) -> Logprobs:
        found = Logprobs()
        first, *others = self._prompt.tokens
        found.add(offsets[0], name_of(self._tokenizer.logprob(first, 0.0, []).token))
        for offset, token, one in zip(offsets[1:], others, self.generation.prompt_likelihoods, strict=True):
            found.add(offset, self._tokenizer.logprob(token, one.logprob, one.top))
        return found

    def _new_logprobs(self, all_left: bool) -> Logprobs | None:
        """Those of the tokens that begin within what is told; with `all_left`, of the others too."""
        if not self._logprobs:
            return None
        found = Logprobs()
        while self._next < len(self.generation.logprobs) and (all_left or self._position.here < self._length):
            one = self.generation.logprobs[self._next]
            found.add(min(self._position.passed(bytes(one.token.bytes)), self._length), one)
            self._next += 1
        return found
