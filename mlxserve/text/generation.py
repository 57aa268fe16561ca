"""One answer under way: the engine's tokens, read as text."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mlxserve.engine.client import EngineClient, Generated
from mlxserve.engine.messages import FinishReason, Reading, Sampling
from mlxserve.text.output import OutputReader, Piece
from mlxserve.text.tokenizer import Tokenizer


class Generation:
    """Generates an answer to `prompt`; what is known of it grows while `pieces` is iterated."""

    def __init__(
        self,
        engine: EngineClient,
        tokenizer: Tokenizer,
        prompt: list[int],
        sampling: Sampling,
        max_tokens: int,
        stop: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._stop_tokens = tokenizer.stop_tokens
        self._reader = OutputReader(tokenizer.detokenizer(), stop)
        self._sampling = sampling
        self._max_tokens = max_tokens
        self.prompt = prompt
        self.prompt_tokens_read = 0
        self.completion_tokens = 0
        """As vLLM and llama-server count: with the stop token, and with the tokens of a stop string."""
        self.finish_reason: FinishReason | None = None
        self.first_token_at = 0.0
        self.last_token_at = 0.0
        """Both by `time.perf_counter`; 0 until there is one."""

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The answer as it comes. Closing the iterator ends the sequence. Raises what EngineClient.generate raises."""
        events = self._engine.generate(self.prompt, self._sampling, self._max_tokens, self._stop_tokens)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Reading):
                    self.prompt_tokens_read = event.done
                    continue
                for piece in self._read(event):
                    yield piece
                if self.finish_reason is not None:
                    break

    def _read(self, event: Generated) -> list[Piece]:
        self.last_token_at = time.perf_counter()
        self.first_token_at = self.first_token_at or self.last_token_at
        by_stop_token = event.finish == "stop"
        pieces = self._reader.read(event.tokens[:-1] if by_stop_token else event.tokens)
        self.completion_tokens = self._reader.tokens_read
        if self._reader.stopped:
            self.finish_reason = "stop"
        elif event.finish is not None:
            self.completion_tokens += by_stop_token
            pieces += self._reader.finish()
            self.finish_reason = "stop" if self._reader.stopped else event.finish
        return pieces
