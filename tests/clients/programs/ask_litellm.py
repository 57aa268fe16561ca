"""What litellm makes of the server's answers, by two of its providers."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the list of prices is not fetched

import litellm

THREADS = ThreadPoolExecutor(4)
URL = os.environ["MLXSERVE_URL"]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "time",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def ask(**asked: Any) -> Any:
    return litellm.completion(api_key="none", temperature=0, timeout=120, max_retries=0, **asked)


def told(provider: dict[str, str]) -> dict[str, Any]:
    """A text and a call, each whole and streamed."""
    text: dict[str, Any] = provider | {"messages": FRANCE, "max_tokens": 20}
    call: dict[str, Any] = provider | {
        "messages": [{"role": "user", "content": "What time is it in Rome?"}],
        "max_tokens": 40,
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    whole = ask(**text)  # alone: it imports more as it goes
    asking = {
        "streamed": THREADS.submit(streamed, **text),
        "call": THREADS.submit(ask, **call),
        "streamed_call": THREADS.submit(streamed, **call),
    }
    return {"whole": seen(whole)} | {name: seen(asked.result()) for name, asked in asking.items()}


def streamed(**asked: Any) -> Any:
    return litellm.stream_chunk_builder(list(ask(**asked, stream=True, stream_options={"include_usage": True})))


def seen(answer: Any) -> dict[str, Any]:
    [choice] = answer.choices
    return {
        "text": choice.message.content,
        "calls": [
            [call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls or []
        ],
        "finish_reason": choice.finish_reason,
        "tokens": answer.usage.completion_tokens,
    }


print(
    json.dumps(
        {
            "openai": told({"model": "openai/demo", "api_base": f"{URL}/v1"}),
            "anthropic": told({"model": "anthropic/demo", "api_base": URL}),
        }
    )
)
