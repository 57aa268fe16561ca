"""The line, or lines, that a user types: edited, remembered over runs, completed."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

PROMPT = "> "
NEXT_LINE = "· "


class Prompt:
    """Asks the user, on the terminal."""

    def __init__(self, words: list[str]) -> None:
        """`words` are completed at the beginning of a line."""
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=NEXT_LINE,
            key_bindings=_keys(),
            history=_history(),
            completer=WordCompleter(words, sentence=True),
            complete_while_typing=False,
        )

    def ask(self) -> str:
        """What was typed. Raises KeyboardInterrupt for Ctrl-C, EOFError for Ctrl-D."""
        return self._session.prompt()


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _history() -> History:
    """In the user's state folder, for the user's eyes alone; in memory where that cannot be written."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "mlxserve"
    file = folder / "chat-history"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(file)
