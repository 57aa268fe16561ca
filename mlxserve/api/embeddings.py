"""POST /v1/embeddings: refused, with the reason."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.errors import ApiError

REASON = (
    "Embeddings are not served: a language model that was trained to write text gives poor ones. "
    "Use a model that was trained for embeddings, on a server for such models."
)


async def create_embeddings(http: Request) -> Response:
    """501."""
    raise ApiError(501, REASON, code="not_supported")
