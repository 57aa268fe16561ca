"""A stand-in for the Hugging Face hub: enough of its HTTP for huggingface_hub, and a log of what was asked."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves folders as repositories, from `with` to its end."""

    def __init__(self, repositories: dict[str, Path], refusals: dict[str, tuple[int, str]] | None = None) -> None:
        self.repositories = repositories
        self.refusals = refusals or {}
        """Status and `X-Error-Code` for some names."""
        self.log: list[tuple[str, str, str]] = []
        """Method, path and Range of every request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fetched(self) -> set[str]:
        """The weight files that were downloaded whole."""
        return {
            path.rsplit("/", 1)[1]
            for method, path, span in self.log
            if method == "GET" and path.endswith(".safetensors") and not span
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.log.append((request.command, path, request.headers.get("Range", "")))
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name = "/".join(parts[:2])
        if name in self.refusals or name not in self.repositories:
            status, code = self.refusals.get(name, (404, "RepoNotFound"))
            return _send(request, status, b"{}", {"X-Error-Code": code})
        folder = self.repositories[name]
        if "resolve" in parts:
            return _send_file(request, folder / "/".join(parts[4:]))
        if "tree" in parts:
            return _send(request, 200, json.dumps(_tree(folder)).encode())
        files = [{"rfilename": file.name} for file in folder.iterdir()]
        return _send(request, 200, json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode())


def _tree(folder: Path) -> list[dict[str, Any]]:
    return [
        {"type": "file", "oid": _digest(file), "size": file.stat().st_size, "path": file.name}
        for file in sorted(folder.iterdir())
    ]


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


def _send_file(request: BaseHTTPRequestHandler, file: Path) -> None:
    if not file.exists():
        return _send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
    body, headers = file.read_bytes(), {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT}
    if not (span := request.headers.get("Range")):
        return _send(request, 200, body, headers)
    first, last = span.removeprefix("bytes=").split("-")
    end = min(int(last or len(body) - 1), len(body) - 1)
    headers["Content-Range"] = f"bytes {first}-{end}/{len(body)}"
    return _send(request, 206, body[int(first) : end + 1], headers)


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
