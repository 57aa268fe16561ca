"""Tools for models whose chat template knows none: told in a system message, in the words of Hermes' format.

The format is that of NousResearch's Hermes 2 Pro, which Qwen and others took over: calls in `<tool_call>`, results in
`<tool_response>`.
"""

from __future__ import annotations

import json
from typing import Any

from mlxserve.text.conversation import Message

INSTRUCTIONS = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def told(messages: list[Message], tools: list[dict[str, Any]]) -> list[Message]:
    """`messages` with a system message about `tools`."""
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    system: Message = {"role": "system", "content": INSTRUCTIONS.format(tools=lines)}
    front = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    return [*messages[:front], system, *messages[front:]]


def as_text(messages: list[Message]) -> list[Message]:
    """`messages` with calls and their results as text, results of one turn in one user message."""
    plain: list[Message] = []
    for message in messages:
        if message["role"] == "tool":
            result = f"<tool_response>\n{message['content']}\n</tool_response>"
            if plain and plain[-1].get("results"):
                plain[-1] = {**plain[-1], "content": f"{plain[-1]['content']}\n{result}"}
            else:
                plain.append({"role": "user", "content": result, "results": True})
        elif message.get("tool_calls"):
            calls = [f"<tool_call>\n{_call(call)}\n</tool_call>" for call in message["tool_calls"]]
            text = "\n".join([message["content"], *calls] if message["content"] else calls)
            plain.append({"role": message["role"], "content": text})
        else:
            plain.append(message)
    return [{name: value for name, value in message.items() if name != "results"} for message in plain]


def _call(call: dict[str, Any]) -> str:
    function = call["function"]
    return json.dumps({"name": function["name"], "arguments": function["arguments"]}, ensure_ascii=False)
