"""`mlxserve chat`: a conversation with a server, in the terminal."""

from __future__ import annotations

import signal
import sys
from contextlib import closing

from mlxserve.chat.answer import Answer
from mlxserve.chat.conversation import Conversation
from mlxserve.chat.request import ChatRequest
from mlxserve.chat.screen import Screen
from mlxserve.chat.words import Quit, Words
from mlxserve.errors import UserError
from mlxserve.remote import Remote

GREETING = "chatting with {model} at {url}; /help tells more, Ctrl-D ends"


def run(request: ChatRequest) -> int:
    """Converse until the user ends it, or answer what is asked by a flag or piped in. Raises UserError."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    question = request.question or ("" if sys.stdin.isatty() else sys.stdin.read().strip())
    if not question and not sys.stdin.isatty():
        raise UserError("nothing is asked: standard input is empty; write something to it, or use --question")
    remote = Remote(request.url, request.api_key)
    conversation = Conversation(remote.model(request.model), request.system, _settings(request))
    if question:
        conversation.ask(question)
        screen = Screen(shows_thoughts=False)
        answer(remote, conversation, screen)
        screen.end()
    else:
        _converse(remote, conversation)
    return 0


def answer(remote: Remote, conversation: Conversation, screen: Screen) -> str:
    """Show the next answer and keep it, also where it is broken off. Returns its figures. Raises UserError."""
    coming = Answer(remote, conversation.body())
    try:
        with closing(coming.deltas()) as deltas:
            screen.show(deltas)
    finally:
        conversation.answered(screen.text)
    return coming.figures


def _converse(remote: Remote, conversation: Conversation) -> None:
    from mlxserve.chat.prompt import Prompt

    screen, words = Screen(), Words(conversation)
    screen.note(GREETING.format(model=conversation.model or "the model", url=remote.url))
    prompt = Prompt(words.names())
    while True:
        try:
            typed = prompt.ask()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            _take(typed, remote, conversation, screen, words)
        except Quit:
            return


def _take(typed: str, remote: Remote, conversation: Conversation, screen: Screen, words: Words) -> None:
    """Carry out one thing that was typed; what fails is told, and the conversation goes on."""
    try:
        if typed.startswith("/"):
            screen.note(words.carry_out(typed))
            if not typed.startswith("/again"):
                return
        elif typed.strip():
            conversation.ask(typed.strip())
        else:
            return
        figures = answer(remote, conversation, screen)
        screen.end()
        screen.note(figures)
    except KeyboardInterrupt:
        screen.end()
        screen.note("stopped")
    except UserError as error:
        screen.end()
        screen.note(str(error))


def _settings(request: ChatRequest) -> dict[str, object]:
    named = {name: getattr(request, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
    return {name: value for name, value in named.items() if value is not None}
