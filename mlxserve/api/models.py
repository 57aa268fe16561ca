"""GET /v1/models: the one model, and the names that requests may call it by."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from mlxserve.api.errors import ApiError
from mlxserve.api.serving import Serving, serving_of


async def list_models(request: Request) -> JSONResponse:
    """GET /v1/models."""
    return JSONResponse({"object": "list", "data": [_model(serving_of(request))]})


async def retrieve_model(request: Request) -> JSONResponse:
    """GET /v1/models/{name}."""
    serving = serving_of(request)
    check_model(serving, request.path_params["name"])
    return JSONResponse(_model(serving))


def check_model(serving: Serving, name: str | None) -> None:
    """404 unless `name` is the served model's, the last part of it, what `--model` said, "default" or nothing."""
    served = serving.name
    if name not in (served, served.rpartition("/")[2], serving.settings.model, "default", "", None):
        message = f"The model '{name}' is not served here: ask for '{served}', or leave 'model' out."
        raise ApiError(404, message, param="model", code="model_not_found")


def _model(serving: Serving) -> dict[str, Any]:
    ready = serving.engine.health.ready
    return {
        "id": serving.name,
        "object": "model",
        "created": serving.created,
        "owned_by": "mlxserve",
        "context_length": ready.context_length if ready else None,
    }
