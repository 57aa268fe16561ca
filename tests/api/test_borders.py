"""What web pages may do with a server that runs on the machine they are looked at, and what they may not."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from mlxserve.config import Settings
from mlxserve.engine.client import EngineClient
from mlxserve.errors import UserError
from mlxserve.front import Front

from .conftest import Serve
from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
SITE = "https://app.example.com"
PREFLIGHT = {
    "Origin": SITE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def settings_with(**given: Any) -> Settings:
    return Settings(model="mlx-community/Tiny-8bit", **given)


async def status_for(serve: Serve, settings: Settings, headers: dict[str, str]) -> int:
    async with serve(settings) as address, httpx.AsyncClient(base_url=address) as http:
        return (await http.get("/v1/models", headers=headers)).status_code


OWN_HOSTS = ("localhost", "LocalHost:8100", "127.0.0.1:1", "127.1.2.3", "[::1]:8100", "[::1]", "localhost:")
FOREIGN_HOSTS = (
    *("evil.example", "evil.example:8100", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.5:8100"),
    *("", "localhost:8100@evil.example", "[::1", "[", "localhost/", "a:b:c", "0.0.0.0:8100", "xn--caf-dma.example"),
)


async def test_a_server_on_loopback_is_asked_by_loopback_names(http: httpx.AsyncClient) -> None:
    for host in OWN_HOSTS:
        answer = await http.post("/v1/chat/completions", json=CHAT, headers={"Host": host})
        assert answer.status_code == 200, host


@pytest.mark.parametrize("target", ["POST /v1/chat/completions", "GET /", "GET /health", "GET /nothing"])
async def test_a_server_on_loopback_is_not_asked_by_another_name(
    http: httpx.AsyncClient, engine: ScriptedEngine, target: str
) -> None:
    for host in FOREIGN_HOSTS:
        answer = await http.request(*target.split(), headers={"Host": host}, json=CHAT)
        assert answer.status_code == 403, host
        assert answer.json()["error"]["code"] == "host_not_allowed"
    assert engine.submitted.empty()


@pytest.mark.parametrize(
    ("given", "host", "status"),
    [
        ({"host": "0.0.0.0"}, "mini.local:8100", 200),
        ({"host": "::"}, "mini.local", 200),
        ({"host": "localhost"}, "mini.local", 403),
        ({"host": "::1"}, "mini.local", 403),
        ({"allowed_hosts": ("mini.local", "proxy")}, "Mini.Local:443", 200),
        ({"allowed_hosts": ("mini.local",)}, "localhost:8100", 200),
        ({"allowed_hosts": ("mini.local",)}, "other.local", 403),
        ({"allowed_hosts": ("*",)}, "other.local", 200),
        ({"host": "0.0.0.0", "allowed_hosts": ("mini.local",)}, "evil.example", 403),
        ({"host": "0.0.0.0", "allowed_hosts": ("mini.local",)}, "mini.local", 200),
    ],
)
async def test_names_can_be_allowed_and_elsewhere_all_are(
    serve: Serve, given: dict[str, Any], host: str, status: int
) -> None:
    assert await status_for(serve, settings_with(**given), {"Host": host}) == status


FOREIGN_ORIGINS = ("https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "HTTP://EVIL.EXAMPLE")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
async def test_a_page_of_another_site_cannot_make_the_model_work(
    http: httpx.AsyncClient, engine: ScriptedEngine, kind: str
) -> None:
    for origin in FOREIGN_ORIGINS:
        answer = await http.post("/v1/chat/completions", json=CHAT, headers={"Origin": origin, "Content-Type": kind})
        assert answer.status_code == 403, origin
        assert answer.json()["error"]["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in answer.headers
    assert engine.submitted.empty()


async def test_the_servers_own_page_may_ask(http: httpx.AsyncClient, base: str) -> None:
    for origin, host in ((base, base.partition("//")[2]), ("http://localhost:8100", "localhost:8100")):
        answer = await http.post("/v1/chat/completions", json=CHAT, headers={"Origin": origin, "Host": host})
        assert answer.status_code == 200


async def test_programs_that_are_no_pages_may_ask(http: httpx.AsyncClient) -> None:
    for origin in ("app://obsidian.md", "vscode-webview://1a2b", "chrome-extension://abc"):
        answer = await http.post("/v1/chat/completions", json=CHAT, headers={"Origin": origin})
        assert answer.status_code == 200, origin
        assert "access-control-allow-origin" not in answer.headers


async def test_by_default_no_browser_gets_leave_to_read(http: httpx.AsyncClient) -> None:
    answer = await http.options("/v1/chat/completions", headers=PREFLIGHT)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("settings", [settings_with(cors_origins=(SITE, "null"), api_keys=("sk-one",))])
async def test_pages_of_an_allowed_site_may_ask_and_read(http: httpx.AsyncClient) -> None:
    preflight = await http.options("/v1/chat/completions", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SITE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    headers = {"Origin": SITE, "Authorization": "Bearer sk-one"}
    for stream in (False, True):
        answer = await http.post("/v1/chat/completions", json=CHAT | {"stream": stream}, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == SITE
        assert "Origin" in answer.headers["vary"]
    refused = await http.post("/v1/chat/completions", json=CHAT, headers={"Origin": SITE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == SITE
    framed = await http.post("/v1/chat/completions", json=CHAT, headers=headers | {"Origin": "null"})
    assert framed.headers["access-control-allow-origin"] == "null"
    other = await http.post("/v1/chat/completions", json=CHAT, headers=headers | {"Origin": "https://evil.example"})
    assert other.status_code == 403


@pytest.mark.parametrize("settings", [settings_with(cors_origins=("*",))])
async def test_all_sites_may_be_allowed(http: httpx.AsyncClient) -> None:
    asked = PREFLIGHT | {"Access-Control-Request-Private-Network": "true"}
    preflight = await http.options("/v1/chat/completions", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-private-network"] == "true"
    answer = await http.post("/v1/chat/completions", json=CHAT, headers={"Origin": SITE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize("settings", [settings_with(host="0.0.0.0")])
async def test_a_host_that_is_nonsense_does_no_harm_where_any_is_taken(http: httpx.AsyncClient) -> None:
    for host in ("", "[", "[::1", "a b", "http://x/", ":::"):
        for path in ("/v1/models", "/v1/models/none", "/v1/chat/completions/", "/dashboard", "/dashboard/none"):
            answer = await http.get(path, headers={"Host": host})
            assert answer.status_code == (200 if path == "/v1/models" else 404), (host, path)


@pytest.mark.parametrize(
    ("path", "allow"),
    [("/v1/chat/completions", "POST"), ("/v1/models", "GET, HEAD"), ("/v1/responses/x", "DELETE, GET, HEAD")],
)
async def test_options_and_wrong_methods_are_told_the_right_one(http: httpx.AsyncClient, path: str, allow: str) -> None:
    for method in ("OPTIONS", "PATCH", "PROPFIND"):
        answer = await http.request(method, path)
        assert answer.status_code == 405
        assert sorted(answer.headers["allow"].split(", ")) == allow.split(", ")
        assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_head_is_as_get_without_a_body(http: httpx.AsyncClient) -> None:
    for path in ("/v1/models", "/health", "/"):
        head, get = await http.head(path), await http.get(path)
        assert (head.status_code, head.headers["content-type"]) == (200, get.headers["content-type"])
        assert head.content == b""


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[trustme.CA, Path]:
    """An authority, and a folder with what it issued for localhost, twice."""
    authority = trustme.CA()
    for name in ("one", "two"):
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.both"))
    (tmp_path / "junk").write_text("no certificate")
    return authority, tmp_path


@pytest.mark.parametrize("key", ["one.key", ""])
async def test_https_is_served_with_a_certificate(certificates: tuple[trustme.CA, Path], key: str) -> None:
    authority, folder = certificates
    certificate = folder / ("one.pem" if key else "one.both")
    settings = Settings(port=0, ssl_certfile=str(certificate), ssl_keyfile=str(folder / key) if key else "")
    front = Front(EngineClient(), settings)
    assert front.url.startswith("https://localhost:")
    await front.start(lambda error: None)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    try:
        async with httpx.AsyncClient(base_url=front.url, verify=trusting) as http:
            assert (await http.get("/v1/models")).status_code == 200
    finally:
        await front.stop()


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        ("one.pem", "", "are not a certificate in PEM format and the private key"),
        ("one.pem", "two.key", "are not a certificate in PEM format and the private key"),
        ("junk", "one.key", "are not a certificate in PEM format and the private key"),
        ("none.pem", "one.key", "No such file or directory"),
        ("one.pem", "none.key", "No such file or directory"),
        ("", "one.key", "--ssl-keyfile is given without --ssl-certfile"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_told_at_the_start(
    certificates: tuple[trustme.CA, Path], certificate: str, key: str, sentence: str
) -> None:
    files = [str(certificates[1] / name) if name else "" for name in (certificate, key)]
    with pytest.raises(UserError, match=sentence):
        Front(EngineClient(), Settings(port=0, ssl_certfile=files[0], ssl_keyfile=files[1]))


async def test_a_locked_private_key_is_told_and_not_asked_for(certificates: tuple[trustme.CA, Path]) -> None:
    from cryptography.hazmat.primitives import serialization

    folder = certificates[1]
    key = serialization.load_pem_private_key((folder / "one.key").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (folder / "locked.key").write_bytes(locked)
    settings = Settings(port=0, ssl_certfile=str(folder / "one.pem"), ssl_keyfile=str(folder / "locked.key"))
    with pytest.raises(UserError, match="locked by a password"):
        Front(EngineClient(), settings)
