"""Compiling grammars beside the engine's work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from mlxserve.engine.sequence import Sequence

if TYPE_CHECKING:
    from mlxserve.engine.grammar import Tokens

logger = logging.getLogger("mlxserve.engine")


class GrammarCompiler:
    """Gives sequences their matchers, in a thread of its own: no other sequence waits for it."""

    def __init__(self, folder: Path, compiled: Callable[[Sequence], None]) -> None:
        """`folder` has the tokenizer. `compiled` is called in the thread, also where a grammar was wrong."""
        self._folder = folder
        self._compiled = compiled
        self._tokens: Tokens | None = None
        self._waiting: SimpleQueue[tuple[Sequence, str]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def compile(self, sequence: Sequence, grammar: str) -> None:
        """Give `sequence` the matcher of `grammar`, or its `grammar_error`, soon."""
        self._waiting.put((sequence, grammar))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="grammars")
            self._thread.start()

    def _run(self) -> None:
        from mlxserve.engine.grammar import Matcher, load_tokens  # with llguidance, if it is needed

        while True:
            sequence, grammar = self._waiting.get()
            try:
                self._tokens = self._tokens or load_tokens(self._folder, sequence.stop_tokens)
                sequence.matcher = Matcher(self._tokens, grammar, sequence.stop_tokens)
                sequence.grammar_error = sequence.matcher.error
            except Exception as error:
                logger.exception("a grammar was not compiled")
                sequence.grammar_error = f"the grammar cannot be compiled: {error}"
            self._compiled(sequence)
