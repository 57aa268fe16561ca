"""What `mlxserve chat` is asked to do."""

from __future__ import annotations

import msgspec


class ChatRequest(msgspec.Struct, frozen=True):
    """The flags of `mlxserve chat`, read; None and empty texts where a flag is not given."""

    url: str
    question: str = ""
    """Asked once, without a conversation after it."""
    model: str = ""
    api_key: str = ""
    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
