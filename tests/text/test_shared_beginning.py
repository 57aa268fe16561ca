from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxserve.text.conversation import Message
from mlxserve.text.shared_beginning import SharedBeginnings
from mlxserve.text.template import Chat
from mlxserve.text.tokenizer import Tokenizer, load_tokenizer

from .tokenizer_folder import write_tokenizer_folder

SYSTEM: Message = {"role": "system", "content": "The quick brown fox."}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "jump", "parameters": {"type": "object"}}}
NO_SYSTEM = """\
{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{{ m.role }}:{{ m.content }}
{% endfor %}"""


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def shared(tokenizer: Tokenizer, chat: Chat) -> list[str]:
    """The beginnings as text."""
    prompt = tokenizer.chat_template.encode(chat)
    return [tokenizer.decode(prompt[:end]) for end in SharedBeginnings(tokenizer.chat_template).borders(chat, prompt)]


@pytest.mark.parametrize("text", ["Hi", "99 bottles", "a", "7", "世界", " \n"])
def test_whatever_the_user_says_the_system_prompt_is_shared(tokenizer: Tokenizer, text: str) -> None:
    expected = "<|im_start|>system\nThe quick brown fox.<|im_end|>\n<|im_start|>user\n"
    [found] = shared(tokenizer, Chat([SYSTEM, user(text)]))
    assert found in (expected, expected[:-1])


def test_a_conversation_shares_what_its_first_message_did(tokenizer: Tokenizer) -> None:
    talk = [SYSTEM, user("Hi"), {"role": "assistant", "content": "Hello"}, user("Bye")]
    assert shared(tokenizer, Chat(talk)) == shared(tokenizer, Chat([SYSTEM, user("Why?")]))


def test_tools_are_shared_also_without_a_system_prompt(tokenizer: Tokenizer) -> None:
    [found] = shared(tokenizer, Chat([user("Hi")], [TOOL]))
    assert "jump" in found
    assert "Hi" not in found


def test_without_system_prompt_and_tools_nothing_is(tokenizer: Tokenizer) -> None:
    assert shared(tokenizer, Chat([user("Hi")])) == []


def test_the_line_of_claude_code_that_changes_is_not_part_of_it(tokenizer: Tokenizer) -> None:
    def from_claude_code(number: int) -> Chat:
        billed = f"x-anthropic-billing-header: cc_version={number};\n{SYSTEM['content']}"
        return Chat([{"role": "system", "content": billed}, user("Hi")])

    expected = shared(tokenizer, Chat([SYSTEM, user("Hi")]))
    assert expected
    assert shared(tokenizer, from_claude_code(1)) == shared(tokenizer, from_claude_code(2)) == expected


def test_a_template_that_knows_no_system_prompt_gets_it_with_the_user_and_it_is_shared_all_the_same(
    tmp_path: Path,
) -> None:
    tokenizer = load_tokenizer(write_tokenizer_folder(tmp_path, NO_SYSTEM))
    assert shared(tokenizer, Chat([SYSTEM, user("Hi")])) == ["user:The quick brown fox.\n\n"]


def test_a_beginning_is_rendered_once(tokenizer: Tokenizer) -> None:
    class Counting:
        rendered = 0

        def encode(self, chat: Chat) -> list[int]:
            self.rendered += 1
            return tokenizer.chat_template.encode(chat)

    counting: Any = Counting()
    beginnings = SharedBeginnings(counting)
    for text in ("Hi", "Why?", "Bye"):
        chat = Chat([SYSTEM, user(text)])
        assert beginnings.borders(chat, tokenizer.chat_template.encode(chat))
    assert counting.rendered == 2
