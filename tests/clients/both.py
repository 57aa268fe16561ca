"""One answer whole and once more streamed, asked for at the same time, as the official client puts them together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessage

One = TypeVar("One")
Other = TypeVar("Other")


def both(whole: Callable[[], One], streamed: Callable[[], Other]) -> tuple[One, Other]:
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.submit(whole), threads.submit(streamed)
        return first.result(), second.result()


def chat_both(client: openai.OpenAI, **asked: Any) -> tuple[ChatCompletion, ChatCompletion]:
    def streamed() -> ChatCompletion:
        try:
            with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                return events.get_final_completion()
        except openai.LengthFinishReasonError as cut_off:
            return cut_off.completion

    return both(lambda: client.chat.completions.create(**asked), streamed)


def said(message: ChatCompletionMessage) -> tuple[str | None, list[tuple[str, str]]]:
    """The text and the calls, without their ids."""
    return message.content, [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
