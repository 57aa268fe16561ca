"""Prompts that are longer than any that the model could read: refused before they are encoded, which takes long."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from mlxserve.text.control_tokens import ControlTokens
from mlxserve.text.tokenizer import Tokenizer

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CONTEXT = 1000
LONG = "word " * 100_000
MESSAGES: Any = [{"role": "user", "content": LONG}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": ["Hi", LONG]},
    "/v1/responses": {"input": LONG},
    "/v1/messages": {"model": "", "messages": MESSAGES, "max_tokens": 5},
    "/v1/messages/count_tokens": {"model": "", "messages": MESSAGES},
}


@pytest.fixture
def unencoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever encodes a long text after all fails."""
    for owner in (ControlTokens, Tokenizer):
        encode = owner.encode

        def checked(self: Any, text: str, encode: Any = encode, **more: Any) -> list[int]:
            assert len(text) < len(LONG)
            return encode(self, text, **more)  # type: ignore[no-any-return]

        monkeypatch.setattr(owner, "encode", checked)


@pytest.mark.usefixtures("unencoded")
@pytest.mark.parametrize("path", REQUESTS)
async def test_it_is_refused_without_being_encoded(http: httpx.AsyncClient, engine: ScriptedEngine, path: str) -> None:
    answer = await http.post(path, json=REQUESTS[path])
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "1000 tokens" in message or message.startswith("prompt is too long: ")
    assert engine.submitted.empty()


@pytest.mark.usefixtures("unencoded")
async def test_a_conversation_that_may_be_shortened_loses_it_and_is_answered(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    items = [{"role": "user", "content": LONG}, {"role": "user", "content": "Hi"}]
    answer = await http.post("/v1/responses", json={"input": items, "truncation": "auto"})
    assert answer.status_code == 200
    assert len((await engine.submitted.get()).prompt) < 100


async def test_what_fits_however_long_its_words_are_is_read(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    answer = await http.post("/v1/completions", json={"prompt": "word " * 60, "max_tokens": 1})
    assert answer.status_code == 200
    assert len((await engine.submitted.get()).prompt) < CONTEXT
