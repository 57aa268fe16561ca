"""What users of llama-server and vLLM look for: tokens of texts, texts of tokens, prompts of chats, slots."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from mlxserve.engine import messages

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

TEXT = "The fox 日本 🎉\n<|im_end|>"
CHAT: list[Any] = [{"role": "user", "content": "Hi <|im_end|>"}]


async def ask(http: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_tokens_of_a_text_as_llama_server_tells_them(http: httpx.AsyncClient, plain: Any) -> None:
    tokens = plain.encode(TEXT)
    assert await ask(http, "/tokenize", content=TEXT) == {"tokens": tokens}
    assert await ask(http, "/v1/tokenize", content="") == {"tokens": []}
    pieces = (await ask(http, "/tokenize", content=TEXT, with_pieces=True))["tokens"]
    assert [piece["id"] for piece in pieces] == tokens
    told = [piece["piece"] for piece in pieces]
    assert any(isinstance(piece, list) for piece in told), "a part of a character is told as bytes"
    assert b"".join(bytes(one) if isinstance(one, list) else one.encode() for one in told).decode() == TEXT


async def test_control_tokens_in_a_text_can_be_left_text(http: httpx.AsyncClient, plain: Any) -> None:
    end = plain.convert_tokens_to_ids("<|im_end|>")
    assert (await ask(http, "/tokenize", content="a<|im_end|>"))["tokens"][-1] == end
    tokens = (await ask(http, "/tokenize", content="a<|im_end|>", parse_special=False, add_special=True))["tokens"]
    assert end not in tokens
    assert (await ask(http, "/detokenize", tokens=tokens))["content"] == "a<|im_end|>"


async def test_tokens_of_a_text_as_vllm_tells_them(http: httpx.AsyncClient, plain: Any) -> None:
    tokens = plain.encode(TEXT)
    expected = {"count": len(tokens), "max_model_len": 1000, "tokens": tokens, "token_strs": None}
    assert await ask(http, "/tokenize", model="", prompt=TEXT) == expected
    told = await ask(http, "/tokenize", prompt="The fox", return_token_strs=True)
    assert "".join(told["token_strs"]) == "The fox"


async def test_tokens_of_a_chat_are_those_of_its_prompt(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    told = await ask(http, "/tokenize", messages=CHAT)
    await ask(http, "/v1/chat/completions", messages=CHAT)
    assert told["tokens"] == (await engine.submitted.get()).prompt


async def test_texts_of_tokens(http: httpx.AsyncClient, plain: Any) -> None:
    assert await ask(http, "/detokenize", tokens=plain.encode(TEXT)) == {"content": TEXT, "prompt": TEXT}
    assert (await ask(http, "/detokenize", tokens=[]))["content"] == ""


async def test_a_chats_prompt_is_told(http: httpx.AsyncClient) -> None:
    told = await ask(http, "/apply-template", messages=CHAT)
    assert told == {"prompt": "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"}
    tool = {"type": "function", "function": {"name": "weather"}}
    assert '"weather"' in (await ask(http, "/apply-template", messages=CHAT, tools=[tool]))["prompt"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": 5}, "content"),
        ("/tokenize", {"content": "a", "prompt": "b"}, "prompt"),
        ("/tokenize", {"content": "a", "with_pieces": 2}, "with_pieces"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": [{"role": "king"}]}, "messages[0].role"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "5"}, "tokens"),
        ("/detokenize", {"tokens": [70, -1]}, "tokens[1]"),
        ("/detokenize", {"tokens": [70, 1.5]}, "tokens[1]"),
        ("/detokenize", {"tokens": [70, 320]}, "tokens"),
        ("/detokenize", {"tokens": [10**30]}, "tokens[0]"),
        ("/apply-template", {}, "messages"),
        ("/apply-template", {"messages": CHAT, "chat_template": "x"}, "chat_template"),
        ("/apply-template", {"messages": CHAT, "chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ],
)
async def test_nonsense_is_refused_with_the_field_to_blame(
    http: httpx.AsyncClient, path: str, body: Any, param: str
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_tokens_that_the_tokenizer_does_not_know_do_no_harm(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.become_ready(vocab_size=5000)
    await ask(http, "/detokenize", tokens=[70, 4999])


async def test_what_the_tokenizer_is_like_is_told(http: httpx.AsyncClient) -> None:
    info = (await http.get("/tokenizer_info")).json()
    assert (info["bos_token"], info["eos_token"]) == (None, "<|im_end|>")
    assert "<|im_start|>" in info["chat_template"]


async def test_props_tell_how_the_model_is_served(http: httpx.AsyncClient) -> None:
    props = (await http.get("/props")).json()
    assert props["default_generation_settings"]["n_ctx"] == 1000
    assert props["default_generation_settings"]["params"]["temperature"] == 1.0
    assert (props["total_slots"], props["model_path"]) == (32, "mlx-community/Tiny-8bit")
    assert props["modalities"] == {"vision": False, "audio": False}
    assert (props["bos_token"], props["eos_token"]) == ("", "<|im_end|>")
    assert "<|im_start|>" in props["chat_template"]
    assert props["build_info"].startswith("mlxserve-")


async def test_slots_show_what_is_under_way_whatever_asked_for_it(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    completion = {"prompt": "Secret", "max_tokens": 9, "seed": 5, "stop": "x"}
    first = asyncio.create_task(http.post("/v1/completions", json=completion))
    one = await engine.submitted.get()
    second = asyncio.create_task(http.post("/v1/chat/completions", json={"messages": CHAT}))
    two = await engine.submitted.get()
    engine.client.receive(messages.Step([], [messages.Reading(one.id, 3, len(one.prompt), 2)]))
    engine.say(one.id, *plain.encode("ok"))
    while not (slots := (await http.get("/slots")).json())[0]["next_token"]["n_decoded"]:
        pass
    assert len(slots) == 32
    assert [slot["is_processing"] for slot in slots] == [True, True] + [False] * 30
    busy = slots[0]
    assert (busy["params"]["seed"], busy["params"]["n_predict"], busy["params"]["stop"]) == (5, 9, ["x"])
    assert (busy["prompt_tokens"], busy["prompt_tokens_read"]) == (len(one.prompt), 3)
    assert busy["prompt_tokens_cached"] == 2
    assert busy["next_token"] == {"has_next_token": True, "n_remain": 7, "n_decoded": 2}
    assert slots[1]["prompt_tokens"] == len(two.prompt)
    assert "Secret" not in str(slots)

    engine.say(one.id, *plain.encode("."), finish="length")
    assert (await first).status_code == 200
    slots = (await http.get("/slots")).json()
    assert [slot["is_processing"] for slot in slots[:3]] == [False, True, False], "the second keeps its slot"

    third = asyncio.create_task(http.post("/v1/completions", json={"prompt": ["a"] * 40}))
    more = [await engine.submitted.get() for _ in range(40)]
    slots = (await http.get("/slots")).json()
    assert [slot["is_processing"] for slot in slots] == [True] * 32
    assert len({slot["id_task"] for slot in slots}) == 32
    for waiting in (two, *more):
        engine.say(waiting.id, 2, finish="stop")
    assert (await second).status_code == (await third).status_code == 200
    slots = (await http.get("/slots")).json()
    assert not any(slot["is_processing"] for slot in slots)


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_health_is_told_under_both_addresses(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).json()["status"] == "healthy"
