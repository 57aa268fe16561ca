"""What instructor makes of the server's answers."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel, Field


class Dish(BaseModel):
    name: Literal["soup", "salad", "bread"]
    price: int = Field(ge=1, le=99)


def dishes(mode: instructor.Mode) -> list[dict[str, Any]]:
    """One whole, and the last of those that grow while it is streamed."""
    plain = OpenAI(base_url=os.environ["MLXSERVE_URL"] + "/v1", api_key="none", max_retries=0)
    client = instructor.from_openai(plain, mode=mode)
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "A soup, please."}],
        "max_retries": 0,
        "temperature": 0,
        "max_tokens": 60,
    }
    whole = client.create(response_model=Dish, **asked)
    *_, streamed = client.create_partial(response_model=Dish, **asked)
    return [whole.model_dump(), streamed.model_dump()]


MODES = (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)
with ThreadPoolExecutor() as threads:
    print(json.dumps({mode.name: told for mode, told in zip(MODES, threads.map(dishes, MODES), strict=True)}))
