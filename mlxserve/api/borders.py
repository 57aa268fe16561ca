"""What a request must pass before it is answered: the host it asks for, the page it comes from, its key."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from mlxserve.api.hosts import HostCheck, OriginCheck, allowed_names
from mlxserve.api.keys import KeyCheck
from mlxserve.config import Settings
from mlxserve.keys import keys_of


def borders(settings: Settings) -> list[Middleware]:
    """In the order they are passed: browsers ask for permission (CORS) without a key. Raises UserError."""
    passed = []
    names = allowed_names(settings.host, settings.allowed_hosts)
    if names is not None:
        passed.append(Middleware(HostCheck, names=names))
    if "*" not in settings.cors_origins:
        passed.append(Middleware(OriginCheck, origins=settings.cors_origins))
    if settings.cors_origins:
        passed.append(_cors(settings.cors_origins))
    if keys := keys_of(settings):
        passed.append(Middleware(KeyCheck, keys=keys))
    return passed


def _cors(origins: tuple[str, ...]) -> Middleware:
    """Keys travel in headers, which pages set themselves, never in cookies; so credentials are not allowed."""
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        allow_private_network=True,
    )
