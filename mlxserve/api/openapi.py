"""GET /openapi.json: the API's description (OpenAPI 3.1), made from the table of endpoints and their types."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve import __version__
from mlxserve.api import errors
from mlxserve.api.anthropic import errors as anthropic
from mlxserve.api.endpoints import Endpoint
from mlxserve.api.keys import is_open

PREFIX = "/v1"
COMMENT = "All addresses are served without `/v1` too."
PARAMETER = re.compile(r"\{(\w+)(:\w+)?\}")
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}

Json = dict[str, Any]


def description(endpoints: tuple[Endpoint, ...], locked: bool) -> Callable[[Request], Awaitable[Response]]:
    """What answers GET /openapi.json; `locked`: whether requests need a key."""
    made: list[bytes] = []

    async def openapi(request: Request) -> Response:
        if not made:
            made.append(msgspec.json.encode(document(endpoints, locked)))
        return Response(made[0], media_type="application/json")

    return openapi


def document(endpoints: tuple[Endpoint, ...], locked: bool) -> Json:
    """The description as OpenAPI has it."""
    schemas = _Schemas(endpoints)
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        path = PREFIX + PARAMETER.sub(r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    components: Json = {"schemas": schemas.components}
    security: Json = {}
    if locked:
        components["securitySchemes"] = KEYS
        security["security"] = [{name: []} for name in KEYS]
    info = {"title": "mlxserve", "version": __version__, "description": COMMENT}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components, **security}


class _Schemas:
    """The JSON schemas of all types that the endpoints have."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        types = [kind for endpoint in endpoints for kind in _types(endpoint)]
        schemas, self.components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        self._known = list(zip(types, schemas, strict=True))

    def of(self, kind: Any) -> Json:
        """The schema of one of the types."""
        return next(schema for known, schema in self._known if known is kind)


def _types(endpoint: Endpoint) -> list[Any]:
    bodies = [kind for kind in (endpoint.request, endpoint.unwell) if kind is not None]
    return [*bodies, *endpoint.query.values(), *endpoint.answers, _error(endpoint)]


def _error(endpoint: Endpoint) -> type[msgspec.Struct]:
    return anthropic.ErrorBody if anthropic.speaks_anthropic(endpoint.path) else errors.ErrorBody


def _operation(endpoint: Endpoint, schemas: _Schemas) -> Json:
    operation: Json = {"summary": endpoint.summary, "responses": _responses(endpoint, schemas)}
    if endpoint.request is not None:
        operation["requestBody"] = {"required": True, "content": _content(schemas.of(endpoint.request))}
    if parameters := [*_path_parameters(endpoint), *_query_parameters(endpoint, schemas)]:
        operation["parameters"] = parameters
    if is_open(PREFIX + endpoint.path):
        operation["security"] = []
    return operation


def _responses(endpoint: Endpoint, schemas: _Schemas) -> Json:
    answers = [schemas.of(kind) for kind in endpoint.answers] or [{"type": "object"}]
    content = _content(answers[0] if len(answers) == 1 else {"anyOf": answers})
    if endpoint.texts:
        content = {kind: {"schema": {"type": "string"}} for kind in endpoint.texts}
    if endpoint.streams:
        content["text/event-stream"] = {}
    everywhere = (403,) if is_open(PREFIX + endpoint.path) else (401, 403)
    responses = {status: _content(schemas.of(_error(endpoint))) for status in (*everywhere, *endpoint.refusals)}
    responses[200] = content
    if endpoint.unwell is not None:
        responses[503] = _content(schemas.of(endpoint.unwell))
    return {
        str(status): {"description": HTTPStatus(status).phrase, "content": responses[status]}
        for status in sorted(responses)
        if not (status == 200 and 501 in endpoint.refusals)
    }


def _path_parameters(endpoint: Endpoint) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name, _ in PARAMETER.findall(endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint, schemas: _Schemas) -> list[Json]:
    return [{"name": name, "in": "query", "schema": schemas.of(kind)} for name, kind in endpoint.query.items()]


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
