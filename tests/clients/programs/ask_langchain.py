"""What LangChain makes of the server's answers."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

URL = os.environ["MLXSERVE_URL"]
FRANCE = "What is the capital of France?"


class Dish(BaseModel):
    name: Literal["soup", "salad", "bread"]
    price: int


@tool
def time(city: Literal["Paris", "Rome"]) -> str:
    """The time of a city."""
    return f"It is noon in {city}."


def model(tokens: int) -> ChatOpenAI:
    return ChatOpenAI(
        model="demo", base_url=f"{URL}/v1", api_key="none", temperature=0, max_tokens=tokens, max_retries=0
    )


def text() -> dict[str, Any]:
    chat = model(20)
    pieces = list(chat.stream(FRANCE, stream_usage=True))
    together = pieces[0]
    for piece in pieces[1:]:
        together += piece
    return {"whole": seen(chat.invoke(FRANCE)), "streamed": seen(together), "pieces": len(pieces)}


def call() -> dict[str, Any]:
    """A call, whole and streamed, and the answer to its result."""
    asked = [HumanMessage("What time is it in Rome?")]
    chat = model(40).bind_tools([time], tool_choice="time", parallel_tool_calls=False)
    whole = chat.invoke(asked)
    pieces = list(chat.stream(asked))
    together = pieces[0]
    for piece in pieces[1:]:
        together += piece
    made = whole.tool_calls[0]
    result = ToolMessage(time.invoke(made["args"]), tool_call_id=made["id"])
    return {
        "whole": seen(whole),
        "streamed": seen(together),
        "after": model(8).bind_tools([time], tool_choice="none").invoke([*asked, whole, result]).content,
    }


def seen(message: AIMessage) -> dict[str, Any]:
    return {
        "text": message.content,
        "calls": [[made["name"], made["args"]] for made in message.tool_calls],
        "tokens": message.usage_metadata["output_tokens"] if message.usage_metadata else None,
        "finish_reason": message.response_metadata["finish_reason"],
    }


def dishes() -> list[dict[str, Any]]:
    """A structured output by each way that LangChain asks for one."""
    return [
        model(40).with_structured_output(Dish, method=method).invoke("A soup, please.").model_dump()
        for method in ("json_schema", "function_calling")
    ]


with ThreadPoolExecutor() as threads:
    asked = {case.__name__: threads.submit(case) for case in (text, call, dishes)}
print(json.dumps({name: case.result() for name, case in asked.items()}))
