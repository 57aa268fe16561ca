"""What can be typed in a chat instead of a message: lines that begin with a slash."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxserve.chat.conversation import Conversation
from mlxserve.errors import UserError
from mlxserve.flags import number, whole

HELP = """\
/again              another answer to the last question
/clear              forget what was said
/system TEXT        another system prompt; without TEXT: none
/set NAME VALUE     temperature, top_p, max_tokens or seed; without VALUE: the server's own
/model NAME         another model
/save FILE          write the conversation as Markdown
/quit               end, as Ctrl-D does
"""

SETTINGS: dict[str, Callable[[str], Any]] = {
    "temperature": number(0, 2),
    "top_p": number(0, 1, above=True),
    "max_tokens": whole(1),
    "seed": whole(0),
}


class Quit(Exception):
    """The conversation is over."""


class Words:
    """Carries them out on `conversation`."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._known: dict[str, Callable[[str], str]] = {
            "help": lambda rest: HELP.rstrip(),
            "again": self._again,
            "clear": self._clear,
            "system": self._system,
            "set": self._set,
            "model": self._model,
            "save": self._save,
            "quit": self._quit,
        }

    def names(self) -> list[str]:
        """What there is."""
        return [f"/{name}" for name in self._known]

    def carry_out(self, line: str) -> str:
        """Do what `line` says; returns what is to be told. Raises Quit, UserError for what cannot be done."""
        name, _, rest = line[1:].partition(" ")
        if name not in self._known:
            raise UserError(f"there is no /{name}: /help tells what there is; a message may begin with a space")
        return self._known[name](rest.strip())

    def _again(self, rest: str) -> str:
        if not self._conversation.again():
            raise UserError("nothing was asked yet")
        return ""

    def _clear(self, rest: str) -> str:
        self._conversation.clear()
        return "what was said is forgotten"

    def _system(self, rest: str) -> str:
        self._conversation.system = rest
        return "from now on with this system prompt" if rest else "from now on without a system prompt"

    def _set(self, rest: str) -> str:
        name, _, value = rest.partition(" ")
        if name not in SETTINGS:
            raise UserError(f"/set knows {', '.join(SETTINGS)}, not {name!r}")
        if not value:
            self._conversation.settings.pop(name, None)
            return f"{name} is the server's own"
        try:
            self._conversation.settings[name] = SETTINGS[name](value)
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{name} {error}") from error
        return f"{name} is {value}"

    def _model(self, rest: str) -> str:
        if not rest:
            return f"the model is {self._conversation.model}"
        self._conversation.model = rest
        return f"from now on {rest} is asked"

    def _save(self, rest: str) -> str:
        if not rest:
            raise UserError("say where to: /save FILE")
        try:
            Path(rest).expanduser().write_text(self._conversation.text(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{rest} cannot be written: {error.strerror}") from error
        return f"written to {rest}"

    def _quit(self, rest: str) -> str:
        raise Quit
