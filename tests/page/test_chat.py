"""The section where one talks with the model."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

from tests.system.server import BIN, Server

from .conftest import NARROW, Visit, copied

CAPITAL = "What is the capital of France?"
HOSTILE = """\
<script>document.title = "owned"</script><img src=x onerror="document.title='owned'">

[a link](javascript:document.title='owned') and [another](https://example.com/x "title") ![picture](https://example.com/p.png)

<iframe src="https://example.com"></iframe><style>body{display:none}</style><a href="data:text/html,x">data</a>

| a | b |
|---|
```python
print("<b>unfinished
"""
MARKDOWN = """\
## Adding

1. *first*, 2. **second**

| a | b |
|---|---|
| 1 | 2 |

```python
def add(a, b):
    return a + b
```
"""


def ask(page: Page, text: str) -> Locator:
    """Send a message; returns the answer's place."""
    before = page.locator('[data-role="assistant"]').count()
    page.locator("#chat-input").fill(text)
    page.locator("#chat-input").press("Enter")
    return page.locator('[data-role="assistant"]').nth(before)


def settle(page: Page, **settings: str) -> None:
    """Fill in settings, by what they are called."""
    for name, value in settings.items():
        page.get_by_label(name.replace("_", " ").capitalize(), exact=True).fill(value)


def expect_idle(server: Server) -> None:
    """Wait until the place of an answer that was left is free."""
    deadline = time.monotonic() + 20
    while server.health()["open_requests"]:
        assert time.monotonic() < deadline


def answering(*deltas: dict[str, Any]) -> Any:
    """A server's stream of `deltas`."""
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body)


def test_an_answer_is_streamed_to_its_end(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    settle(page, temperature="0")
    answer = ask(page, CAPITAL)
    expect(answer).to_have_attribute("data-writing", "false")
    expect(answer.locator(".content")).to_contain_text("Paris")
    stats = answer.locator("[data-stats]")
    expect(stats).to_contain_text("tokens/s")
    assert int(stats.get_attribute("data-tokens") or 0) > 3
    expect(page.locator("#chat-input")).to_be_enabled()


def test_an_answer_is_stopped_and_given_again(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    answer = ask(page, "Write a very long story about the sea.")
    expect(answer.locator(".content")).not_to_be_empty()
    page.locator("#chat-stop").click()
    expect(answer).to_have_attribute("data-writing", "false")
    expect(answer.locator("[data-stats]")).to_contain_text("stopped")
    expect_idle(server)
    answer.get_by_label("Regenerate").click()
    again = page.locator('[data-role="assistant"]')
    expect(again).to_have_count(1)
    expect(again).to_have_attribute("data-writing", "true")
    page.keyboard.press("Escape")
    page.locator("#chat-input").focus()
    page.keyboard.press("Escape")
    expect(again).to_have_attribute("data-writing", "false")


def test_a_message_is_edited_and_asked_anew(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    settle(page, temperature="0", max_tokens="12")
    expect(ask(page, "What is the capital of Italy?")).to_have_attribute("data-writing", "false")
    said = page.locator('[data-role="user"]')
    said.hover()
    said.get_by_label("Edit", exact=True).click()
    said.locator("textarea").fill(CAPITAL)
    said.get_by_role("button", name="Send").click()
    expect(page.locator('[data-role="user"] .bubble')).to_have_text(CAPITAL)
    expect(page.locator('[data-role="assistant"] .content')).to_contain_text("Paris")


def test_conversations_are_kept_and_exported(visit: Visit, server: Server, tmp_path: Path) -> None:
    page = visit(server, "chat/new")
    settle(page, temperature="0", max_tokens="12")
    page.locator("#system-prompt").fill("You are brief.")
    expect(ask(page, CAPITAL)).to_have_attribute("data-writing", "false")
    text = page.locator('[data-role="assistant"] .content').inner_text()
    page.reload()
    expect(page.locator('[data-role="assistant"] .content')).to_have_text(text)
    expect(page.locator("#system-prompt")).to_have_value("You are brief.")
    expect(page.locator("[data-conversation]")).to_have_count(1)
    for name, ending in (("As Markdown", "md"), ("As JSON", "json")):
        page.get_by_label("Export").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        file = tmp_path / f"chat.{ending}"
        download.value.save_as(file)
        assert CAPITAL in file.read_text()
        assert text.split()[0] in file.read_text()
    page.get_by_label("Delete").first.click()
    expect(page.locator("[data-conversation]")).to_have_count(0)


def test_a_conversation_is_given_another_name_and_opened_again(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    page.route("**/v1/chat/completions", answering({"content": "Paris."}))
    expect(ask(page, CAPITAL).locator(".content")).to_have_text("Paris.")
    first = page.locator("[data-conversation]")
    first.get_by_label("Rename").click()
    first.locator("input").fill("France")
    first.locator("input").press("Enter")
    expect(first.locator("a")).to_have_text("France")
    expect(page.locator("#chat-title")).to_have_text("France")
    first.get_by_label("Rename").click()
    first.locator("input").fill("Spain")
    first.locator("input").press("Escape")
    expect(first.locator("a")).to_have_text("France")
    page.locator("#new-chat").click()
    expect(page.locator('[data-role="assistant"]')).to_have_count(0)
    expect(ask(page, "And of Spain?")).to_have_attribute("data-writing", "false")
    page.reload()
    expect(page.locator("[data-conversation]")).to_have_count(2)
    page.locator("[data-conversation] a", has_text="France").click()
    expect(page.locator('[data-role="user"] .bubble')).to_have_text(CAPITAL)


def test_everything_said_can_be_copied(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    page.route("**/v1/chat/completions", answering(*({"content": sign} for sign in MARKDOWN)))
    answer = ask(page, "How does one add?")
    expect(answer).to_have_attribute("data-writing", "false")
    answer.get_by_role("button", name="Copy", exact=True).click()
    expect(answer.locator(".code").get_by_role("button")).to_have_text("Copied")
    assert copied(page) == "def add(a, b):\n    return a + b"
    answer.get_by_label("Copy answer").click()
    assert copied(page) == MARKDOWN
    said = page.locator('[data-role="user"]')
    said.hover()
    said.get_by_label("Copy message").click()
    assert copied(page) == "How does one add?"
    page.locator("#show-code").click()
    dialog = page.locator("#code-dialog")
    dialog.get_by_role("button", name="Copy").click()
    assert copied(page) == dialog.locator("pre code").inner_text()


def test_copying_works_without_the_browsers_clipboard(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    page.add_init_script("delete Navigator.prototype.clipboard")  # as where the page came by plain HTTP
    page.reload()
    page.route("**/v1/chat/completions", answering({"content": "Paris."}))
    answer = ask(page, CAPITAL)
    expect(answer).to_have_attribute("data-writing", "false")
    answer.get_by_label("Copy answer").click()
    page.locator("#chat-input").press("Control+V")
    expect(page.locator("#chat-input")).to_have_value("Paris.")


def test_markdown_is_drawn(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    page.route("**/v1/chat/completions", answering(*({"content": sign} for sign in MARKDOWN)))
    content = ask(page, "How does one add?").locator(".content")
    expect(content.locator("h2")).to_have_text("Adding")
    expect(content.locator("ol li em")).to_have_text("first")
    expect(content.locator("td")).to_have_text(["1", "2"])
    expect(content.locator(".code-head span")).to_have_text("python")


def test_settings_are_what_the_model_is_asked_with(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    bodies: list[dict[str, Any]] = []

    def answer(route: Route) -> None:
        bodies.append(route.request.post_data_json)
        answering({"content": "Paris."})(route)

    page.route("**/v1/chat/completions", answer)
    page.locator("#system-prompt").fill("You are brief.")
    settle(page, temperature="0.3", top_p="0.9", top_k="40", max_tokens="12", seed="7")
    page.locator("#reasoning").select_option("low")
    expect(ask(page, CAPITAL)).to_have_attribute("data-writing", "false")
    numbers = {"temperature": 0.3, "top_p": 0.9, "top_k": 40, "max_tokens": 12, "seed": 7}
    assert bodies[0].items() >= {**numbers, "reasoning_effort": "low", "model": "demo", "stream": True}.items()
    assert [message["role"] for message in bodies[0]["messages"]] == ["system", "user"]
    settle(page, top_p="3")
    expect(page.get_by_label("Top p", exact=True)).to_have_attribute("aria-invalid", "true")
    page.locator("#new-chat").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("7")


def test_a_schema_that_cannot_be_read_is_not_sent(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    page.get_by_role("checkbox", name="JSON schema").check()
    page.locator("#set-schema").fill("{")
    expect(page.locator('[data-error="schema"]')).not_to_be_empty()
    page.locator("#chat-input").fill(CAPITAL)
    page.locator("#chat-input").press("Enter")
    expect(page.locator(".toast")).to_be_visible()
    assert server.health()["open_requests"] == 0


def test_on_a_telephone_the_sides_are_opened_and_closed(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new", viewport=NARROW)
    page.route("**/v1/chat/completions", answering({"content": "Paris."}))
    expect(ask(page, CAPITAL).locator(".content")).to_have_text("Paris.")
    for drawer, side in (("list", "#chat-list"), ("settings", "#chat-settings")):
        expect(page.locator(side)).to_be_hidden()
        page.locator(f'[data-drawer="{drawer}"]').click()
        expect(page.locator(side)).to_be_visible()
        page.locator(f'[data-drawer="{drawer}"]').click()
        expect(page.locator(side)).to_be_hidden()


def test_the_request_as_curl_and_as_python_runs(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    settle(page, temperature="0", max_tokens="12")
    page.locator("#chat-input").fill(CAPITAL)
    page.locator("#show-code").click()
    dialog = page.locator("#code-dialog")
    curl = dialog.locator("pre code").inner_text()
    assert "Paris" in subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
    dialog.locator('[data-form="python"]').click()
    python = dialog.locator("pre code").inner_text()
    ran = subprocess.run([str(BIN / "python"), "-c", python], capture_output=True, text=True, check=True)
    assert "Paris" in ran.stdout


def test_an_answer_that_must_follow_a_schema_does(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    settle(page, temperature="0", max_tokens="60")
    page.get_by_role("checkbox", name="JSON schema").check()
    page.get_by_role("button", name="Insert an example").click()
    answer = ask(page, "Name a person and an age.")
    expect(answer).to_have_attribute("data-writing", "false")
    json.loads(answer.locator(".content code").inner_text())


def test_thoughts_are_folded_away(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    page.route("**/v1/chat/completions", answering({"reasoning_content": "Hm, France."}, {"content": "Paris."}))
    answer = ask(page, CAPITAL)
    expect(answer.locator(".content")).to_have_text("Paris.")
    expect(answer.locator(".thought")).to_be_hidden()
    answer.locator("summary").click()
    expect(answer.locator(".thought")).to_have_text("Hm, France.")


def test_a_tool_is_called_and_its_result_sent(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    bodies: list[dict[str, Any]] = []
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
    }

    def answer(route: Route) -> None:
        bodies.append(route.request.post_data_json)
        (answering({"tool_calls": [call]}) if len(bodies) == 1 else answering({"content": "Cold."}))(route)

    page.route("**/v1/chat/completions", answer)
    page.get_by_role("checkbox", name="Tools").check()
    page.get_by_role("button", name="Insert an example").click()
    first = ask(page, "How is the weather in Oslo?")
    expect(first.locator(".arguments")).to_contain_text("Oslo")
    first.locator("textarea").fill('{"temperature": -3}')
    first.get_by_role("button", name="Send results").click()
    expect(page.locator('[data-role="assistant"]').nth(1).locator(".content")).to_have_text("Cold.")
    assert bodies[0]["tools"]
    assert bodies[1]["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": '{"temperature": -3}'}


def test_what_a_model_writes_does_nothing(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new")
    pieces = [{"content": HOSTILE[at : at + 7]} for at in range(0, len(HOSTILE), 7)]
    page.route("**/v1/chat/completions", answering(*pieces))
    answer = ask(page, "Be hostile.")
    expect(answer).to_have_attribute("data-writing", "false")
    expect(answer.locator(".content")).to_contain_text("unfinished")
    assert "owned" not in page.title()
    for tag in ("script", "img", "iframe", "style", "object", "form"):
        expect(answer.locator(f".content {tag}")).to_have_count(0)
    links = answer.locator(".content a")
    assert {link.get_attribute("href") for link in links.all()} == {
        "https://example.com/x",
        "https://example.com/p.png",
    }
    assert all("noopener" in (link.get_attribute("rel") or "") for link in links.all())


def test_an_error_is_told_in_words(visit: Visit, server: Server) -> None:
    page = visit(server, "chat/new", faults=True)
    settle(page, max_tokens="999999999")
    answer = ask(page, "x " * 9000)
    expect(answer.locator(".trouble")).to_contain_text("tokens")
    expect(answer.get_by_role("button", name="Try again")).to_be_visible()
