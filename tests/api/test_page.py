"""GET / and its files."""

from __future__ import annotations

import re

import httpx
import pytest

from mlxserve.api.page import FOLDER

pytestmark = pytest.mark.anyio


async def test_the_page_loads_its_own_files_only(http: httpx.AsyncClient) -> None:
    page = await http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
    assert "unsafe" not in policy
    files = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert {file for file in files if not file.startswith("/dashboard/")} == {"/health"}
    for file in files:
        assert (await http.get(file)).status_code == 200


async def test_every_file_of_the_page_is_bound_as_the_page_is(http: httpx.AsyncClient) -> None:
    page = await http.get("/")
    for path in FOLDER.rglob("*.*"):
        answer = await http.get(f"/dashboard/{path.relative_to(FOLDER)}")
        assert answer.status_code == 200
        for header in ("content-security-policy", "x-content-type-options", "cache-control"):
            assert answer.headers[header] == page.headers[header]


async def test_scripts_are_sent_as_scripts(http: httpx.AsyncClient) -> None:
    """Browsers refuse modules of any other type."""
    for file in ("main.js", "chat/chat.js", "vendor/marked/marked.esm.js"):
        answer = await http.get(f"/dashboard/{file}")
        assert answer.headers["content-type"].partition(";")[0] in ("text/javascript", "application/javascript")


async def test_a_newer_page_is_asked_for_each_time(http: httpx.AsyncClient) -> None:
    first = await http.get("/dashboard/main.js")
    again = await http.get("/dashboard/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (first.headers["cache-control"], again.status_code) == ("no-cache", 304)
