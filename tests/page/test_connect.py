"""The section that says what to paste where, and the key that a server may ask for."""

from __future__ import annotations

import subprocess

from playwright.sync_api import Page, expect

from tests.system.server import BIN, Server

from .conftest import KEY, Visit, copied

CLIENTS = [
    "curl",
    "openai-python",
    "openai-node",
    "open-webui",
    "continue",
    "cursor",
    "claude-code",
    "codex",
    "langchain",
    "llm",
]
SHORT = '"temperature": 0, "max_tokens": 12, "messages"'
FEW = "stream=True, temperature=0, max_tokens=12"


def test_each_client_is_told_this_servers_address(visit: Visit, server: Server) -> None:
    page = visit(server, "connect")
    expect(page.locator('[data-basic="base"] code')).to_have_text(f"{server.url}/v1")
    expect(page.locator('[data-basic="model"] code')).to_have_text("demo")
    for client in CLIENTS:
        section = page.locator(f"#client-{client}")
        expect(section).to_be_visible()
        expect(section).to_contain_text(server.url)


def test_what_is_pasted_works(visit: Visit, server: Server) -> None:
    page = visit(server, "connect")
    expect(page.locator('[data-basic="model"] code')).to_have_text("demo")
    curl = page.locator("#client-curl pre code").inner_text().replace('"messages"', SHORT)
    assert "Paris" in subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
    python = page.locator("#client-openai-python pre code").last.inner_text().replace("stream=True", FEW)
    ran = subprocess.run([str(BIN / "python"), "-c", python], capture_output=True, text=True, check=True)
    assert "Paris" in ran.stdout


def test_a_server_with_keys_is_given_one(visit: Visit, locked: Server) -> None:
    page = visit(locked, "cluster", faults=True)
    give_key(page, "wrong")
    expect(page.locator("#key-error")).to_contain_text("does not know")
    give_key(page, KEY)
    expect(page.locator("#key-dialog")).to_be_hidden()
    expect(page.locator('[data-rank="0"] [data-memory="weights"]')).to_contain_text("MB")
    page.locator('[data-tab="chat"]').click()
    page.get_by_label("Max tokens").fill("12")
    page.locator("#chat-input").fill("What is the capital of France?")
    page.locator("#chat-input").press("Enter")
    expect(page.locator('[data-role="assistant"]')).to_have_attribute("data-writing", "false")
    expect(page.locator('[data-role="assistant"] .content')).not_to_be_empty()
    page.locator('[data-tab="connect"]').click()
    expect(page.locator("#client-curl")).not_to_contain_text(KEY)
    page.locator("#client-curl [data-copy]").first.click()
    assert KEY in copied(page)
    page.locator("#show-key").check()
    expect(page.locator("#client-curl")).to_contain_text(KEY)


def test_a_key_is_kept_where_that_is_wished_and_forgotten(visit: Visit, locked: Server) -> None:
    page = visit(locked, "cluster", faults=True)
    page.locator("#key-remember").check()
    give_key(page, KEY)
    dialog, weights = page.locator("#key-dialog"), page.locator('[data-rank="0"] [data-memory="weights"]')
    expect(weights).to_contain_text("MB")
    later = page.context.new_page()
    later.goto(f"{locked.url}/#cluster")
    expect(later.locator('[data-rank="0"] [data-memory="weights"]')).to_contain_text("MB")
    later.locator("#key-button").click()
    later.locator("#key-forget").click()
    later.reload()
    expect(later.locator("#key-dialog")).to_be_visible()
    expect(dialog).to_be_hidden()


def give_key(page: Page, key: str) -> None:
    """Fill in the dialog that asks for one."""
    expect(page.locator("#key-dialog")).to_be_visible()
    page.locator("#key-input").fill(key)
    page.get_by_role("button", name="Use this key").click()
