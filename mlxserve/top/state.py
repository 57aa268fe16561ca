"""What /health and /traffic tell, as far as it is shown here."""

from __future__ import annotations

import msgspec

from mlxserve.engine.messages import MemoryFacts
from mlxserve.errors import UserError
from mlxserve.remote import Refused, Remote


class Wire(msgspec.Struct, frozen=True):
    """From a rank to the next."""

    to: int | None = None
    latency: float | None = None
    """Seconds."""
    bytes_per_second: float = 0.0


class Rank(msgspec.Struct, frozen=True):
    """One rank; `layers` first and last, `busy` from 0 to 1."""

    rank: int
    host: str = ""
    device: str = ""
    layers: tuple[int, int] | None = None
    memory: MemoryFacts = MemoryFacts()
    busy: float = 0.0
    tokens_per_second: float = 0.0
    link: Wire = Wire()
    progress: str = ""


class Status(msgspec.Struct, frozen=True):
    status: str
    reason: str = ""
    since: float = 0.0


class Minutes(msgspec.Struct, frozen=True):
    """Series over the last minutes."""

    prompt_tokens_per_second: list[float] = []
    generated_tokens_per_second: list[float] = []
    ttft: list[float | None] = []
    inter_token: list[float | None] = []


class Traffic(msgspec.Struct, frozen=True):
    """The body of /traffic."""

    now: float
    status: Status
    minutes: Minutes = Minutes()
    totals: dict[str, float] = {}
    running: int = 0
    waiting: int = 0
    ranks: list[Rank] = []


def traffic(remote: Remote) -> Traffic:
    """What the server tells now. Raises UserError."""
    try:
        return msgspec.convert(remote.get("/traffic?day=0"), Traffic)
    except Refused as refused:
        if refused.status in (401, 403):
            raise UserError(f"{remote.url} asks for a key: give it with --api-key") from refused
        if refused.status == 404:
            raise UserError(f"{remote.url} has no /traffic: it is no server of mlxserve, or an older one") from refused
        raise
    except (msgspec.ValidationError, ValueError) as error:
        raise UserError(f"{remote.url} answers /traffic with something else than mlxserve does: {error}") from error
