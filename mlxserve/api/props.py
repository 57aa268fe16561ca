"""GET /props: how the model is served, as llama-server tells it."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.answer import FINGERPRINT
from mlxserve.api.question import Draw
from mlxserve.api.serving import serving_of
from mlxserve.api.slots import SlotParams, params_of


class Modalities(msgspec.Struct):
    """What the model reads besides text."""

    vision: bool = False
    audio: bool = False


class GenerationSettings(msgspec.Struct):
    """What holds where a request says nothing. `n_ctx`: tokens of prompt and answer together."""

    n_ctx: int
    params: SlotParams


class Props(msgspec.Struct):
    """The answer to GET /props. `model_path` is what `--model` said."""

    default_generation_settings: GenerationSettings
    total_slots: int
    model_alias: str
    model_path: str
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str
    modalities: Modalities


async def props(http: Request) -> Response:
    """GET /props."""
    serving = serving_of(http)
    tokenizer, ready = serving.require_ready()
    settings = serving.settings
    drawn = params_of(Draw(seed=-1).sampling(settings), settings.max_tokens or -1, [])
    found = Props(
        default_generation_settings=GenerationSettings(ready.context_length, drawn),
        total_slots=settings.decode_concurrency,
        model_alias=serving.name,
        model_path=settings.model,
        chat_template=tokenizer.chat_template.source,
        bos_token=tokenizer.control_token("bos") or "",
        eos_token=tokenizer.control_token("eos") or "",
        build_info=FINGERPRINT,
        modalities=Modalities(),
    )
    return Response(msgspec.json.encode(found), media_type="application/json")
