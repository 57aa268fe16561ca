"""GET /v1/models: the one model, once for each name that requests may call it by."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.errors import ApiError
from mlxserve.api.serving import Serving, serving_of


class ModelMeta(msgspec.Struct):
    """What llama-server tells of a model, as far as it is known here; null until it is loaded."""

    n_vocab: int | None
    n_ctx: int | None
    """Tokens of prompt and answer together."""
    n_ctx_train: int | None
    """What the model was made for; null where another number was asked for at the start."""


class Model(msgspec.Struct):
    """A name of the model. `max_model_len` is vLLM's word for `context_length`."""

    id: str
    created: int
    context_length: int | None
    max_model_len: int | None
    meta: ModelMeta
    object: Literal["model"] = "model"
    owned_by: str = "mlxserve"


class ModelList(msgspec.Struct):
    """The answer to GET /v1/models."""

    data: list[Model]
    object: Literal["list"] = "list"


async def list_models(request: Request) -> Response:
    """GET /v1/models."""
    serving = serving_of(request)
    return _json(ModelList([_model(serving, name) for name in serving.names]))


async def retrieve_model(request: Request) -> Response:
    """GET /v1/models/{name}."""
    serving, name = serving_of(request), request.path_params["name"]
    if not is_served(serving, name):
        raise _not_found(serving, name)
    return _json(_model(serving, name if name in serving.names else serving.name))


def check_model(serving: Serving, name: str | None) -> None:
    """With --strict-model, 404 unless `name` is the served model's. Else any name will do: there is but one model."""
    if name and serving.settings.strict_model and not is_served(serving, name):
        raise _not_found(serving, name)


def is_served(serving: Serving, name: str) -> bool:
    """Whether `name` is one of the model's, the last part of one, what `--model` said, or "default"."""
    parts = [served.rpartition("/")[2] for served in serving.names]
    return name in (*serving.names, *parts, serving.settings.model, "default")


def _not_found(serving: Serving, name: str) -> ApiError:
    message = f"The model '{name}' is not served here: ask for '{serving.name}', or leave 'model' out."
    return ApiError(404, message, param="model", code="model_not_found")


def _model(serving: Serving, name: str) -> Model:
    ready = serving.engine.health.ready
    length = ready.context_length if ready else None
    made_for = None if serving.settings.context_length else length
    meta = ModelMeta(ready.vocab_size if ready else None, length, made_for)
    return Model(name, serving.created, length, length, meta)


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
