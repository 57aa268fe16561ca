"""GET /: the page, from the package's own files."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse

FOLDER = Path(__file__).parent.parent / "dashboard"

POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


async def page(request: Request) -> FileResponse:
    """The page may load what this server sends, and nothing else."""
    return FileResponse(FOLDER / "index.html", headers=POLICY)
