"""Tools of the Responses API: functions, tools that take text, and what agents such as Codex send besides."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from .scripted_engine import ScriptedEngine
from .test_pieces import CALL
from .test_responses import WEATHER, events_of, put_together, same

pytestmark = pytest.mark.anyio

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch"'},
}
SEARCH: dict[str, Any] = {"type": "web_search", "external_web_access": True, "search_content_types": ["text"]}
DOCS: dict[str, Any] = {
    "type": "namespace",
    "name": "mcp__docs",
    "description": "Documents.",
    "tools": [{"type": "function", "name": "read", "parameters": {"type": "object"}, "strict": False}],
}
LOCAL: list[dict[str, Any]] = [{"type": "local_shell"}, {"type": "shell"}, {"type": "tool_search"}]


def called(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


async def prompt_of(engine: ScriptedEngine, plain: Any) -> str:
    """The prompt of the last answer."""
    submitted = await engine.submitted.get()
    while not engine.submitted.empty():
        submitted = await engine.submitted.get()
    return str(plain.decode(submitted.prompt))


@pytest.fixture(autouse=True)
def long_context(base: str, engine: ScriptedEngine) -> None:
    engine.become_ready(context_length=5000)


async def test_tools_reach_the_model(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    tools: Any = [WEATHER]
    await client.responses.create(model="", input="Hi", tools=tools)
    prompt = await prompt_of(engine, plain)
    assert '"name": "weather"' in prompt
    assert '"required": ["city"]' in prompt


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
    ],
)
async def test_forced_calls_follow_a_grammar_and_come_as_calls(
    client: AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any, choice: Any
) -> None:
    engine.script = plain.encode('[{"name": "weather", "arguments": {"city": "Bern"}}]', add_special_tokens=False)
    tools: Any = [WEATHER, {**WEATHER, "name": "other"}]
    answer = await client.responses.create(model="", input="Hi", tools=tools, tool_choice=choice)
    grammar = (await engine.submitted.get()).grammar
    assert ("other" in grammar) is (choice == "required")
    [call] = answer.output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bern"})
    events = await events_of(http, tools=tools, tool_choice=choice)
    assert same(put_together(events)) == same([call.to_dict()])


async def test_no_tool_is_offered_where_none_may_be_called(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(CALL, add_special_tokens=False)
    tools: Any = [WEATHER]
    answer = await client.responses.create(model="", input="Hi", tools=tools, tool_choice="none")
    assert answer.output_text == CALL
    assert "weather" not in await prompt_of(engine, plain)


@pytest.mark.parametrize("text", ["*** Begin Patch\n*** End Patch\n", "", 'a "quote" — 🎉'])
async def test_a_tool_that_takes_text_gets_text(
    client: AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any, text: str
) -> None:
    engine.script = plain.encode(called("apply_patch", input=text), add_special_tokens=False)
    tools: Any = [PATCH]
    answer = await client.responses.create(model="", input="Hi", tools=tools)
    [call] = answer.output
    assert call.type == "custom_tool_call"
    assert (call.name, call.input) == ("apply_patch", text)
    prompt = await prompt_of(engine, plain)
    assert '*** Begin Patch\\"' in prompt, "the grammar is told"
    events = await events_of(http, tools=tools)
    kinds = [event["type"].removeprefix("response.") for event in events[2:-1]]
    assert kinds == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    assert (events[3]["delta"], events[4]["input"], events[5]["item"]["input"]) == (text, text, text)


async def test_a_text_tool_called_in_another_way_gets_all_that_was_written(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(called("apply_patch", patch="x"), add_special_tokens=False)
    tools: Any = [PATCH]
    [call] = (await client.responses.create(model="", input="Hi", tools=tools)).output
    assert call.type == "custom_tool_call"
    assert json.loads(call.input) == {"patch": "x"}


async def test_a_tool_of_a_namespace_is_called_in_it(
    client: AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(called("mcp__docs__read", page=1), add_special_tokens=False)
    tools: Any = [DOCS, {**DOCS, "name": "mcp__other"}]
    [call] = (await client.responses.create(model="", input="Hi", tools=tools)).output
    assert call.type == "function_call"
    assert (call.namespace, call.name, json.loads(call.arguments)) == ("mcp__docs", "read", {"page": 1})
    prompt = await prompt_of(engine, plain)
    assert '"mcp__docs__read"' in prompt
    assert '"mcp__other__read"' in prompt
    sent: list[Any] = [
        {"role": "user", "content": "Hi"},
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "Page one"},
    ]
    await client.responses.create(model="", input=sent, tools=tools)
    assert '"mcp__docs__read", "arguments": {"page": 1}' in await prompt_of(engine, plain), "its history keeps the name"


async def test_tools_that_cannot_be_offered_are_left_out_beside_others(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    tools = [SEARCH, WEATHER, *LOCAL, PATCH, DOCS]
    answer = await http.post("/v1/responses", json={"input": "Hi", "tools": tools, "tool_choice": "auto"})
    assert answer.status_code == 200, answer.text
    assert [tool["type"] for tool in answer.json()["tools"]] == ["function", "custom", "namespace"]
    assert "web_search" not in await prompt_of(engine, plain)


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([SEARCH], "tools[0].type"),
        ([*LOCAL], "tools[0].type"),
        ([{"type": "mcp", "server_url": "http://127.0.0.1:1/"}], "tools[0].type"),
    ],
)
async def test_tools_of_which_none_can_be_offered_are_refused_by_name(
    http: httpx.AsyncClient, tools: Any, param: str
) -> None:
    answer = await http.post("/v1/responses", json={"input": "Hi", "tools": tools})
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, "unsupported_tool")
    assert tools[0]["type"] in answer.json()["error"]["message"]


async def test_a_whole_turn_of_codex(http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any) -> None:
    """What Codex CLI sends: everything each time, nothing stored."""
    shell = {**WEATHER, "name": "exec_command", "description": "Runs a command."}
    request: dict[str, Any] = {
        "model": "gpt-oss",
        "instructions": "You are a coding agent.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandboxed."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<env>cwd</env>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
        ],
        "tools": [shell, PATCH, SEARCH, DOCS],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0197",
        "text": {"verbosity": "low"},
        "client_metadata": {"x-codex-installation-id": "1"},
    }
    engine.script = plain.encode(f"<think>Look.</think>I look.{called('exec_command', city='ls')}")
    answer = await http.post("/v1/responses", json=request, headers={"OpenAI-Beta": "responses=v1"})
    assert answer.status_code == 200, answer.text
    output = json.loads(answer.text.strip().split("data: ")[-1])["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    call = output[-1]
    for item in output:
        ITEM.validate_python(item)

    engine.script = plain.encode("Fixed.", add_special_tokens=False)
    patch = {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin Patch"}
    request["input"] += [
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
        *output[1:],
        {"type": "function_call_output", "call_id": call["call_id"], "output": "main.py"},
        {**patch, "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "Done"}]},
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}},
    ]
    events = await events_of(http, **request)
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Fixed."
    prompt = await prompt_of(engine, plain)
    parts = [
        "You are a coding agent.",
        "Sandboxed.",
        "Fix it.",
        "I look.",
        '"exec_command"',
        "main.py",
        "Begin",
        "Done",
    ]
    places = [prompt.rindex(part) for part in parts]
    assert places == sorted(places), prompt
