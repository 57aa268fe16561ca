from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxserve.errors import UserError
from mlxserve.text.template import Chat
from mlxserve.text.tokenizer import Tokenizer, load_tokenizer

from .tokenizer_folder import write_tokenizer_folder


def test_the_configs_stop_tokens_are_the_stop_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.stop_tokens == [0, 2]


def test_a_folder_without_a_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"^The tokenizer in .* cannot be loaded: [^\n]*$"):
        load_tokenizer(tmp_path)


def test_a_broken_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    write_tokenizer_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"^The tokenizer in .* cannot be loaded: [^\n]*$"):
        load_tokenizer(tmp_path)


def test_a_chat_template_can_be_given_as_text_or_as_a_file(folder: Path, tmp_path: Path) -> None:
    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}"
    (tmp_path / "own.jinja").write_text(template)
    for source in (template, str(tmp_path / "own.jinja")):
        tokenizer = load_tokenizer(folder, source)
        assert _text(tokenizer, tokenizer.chat_template.encode(Chat([{"role": "user", "content": "hi"}]))) == "[hi]"


def test_a_chat_template_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"The chat template /no/such\.jinja cannot be read"):
        load_tokenizer(folder, "/no/such.jinja")


def test_loading_leaves_the_limit_of_open_files_alone(folder: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from mlxserve.text.tokenizer import load_tokenizer;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 3000)); "
        "before = resource.getrlimit(resource.RLIMIT_NOFILE); load_tokenizer(Path(sys.argv[1]));"
        "assert before == resource.getrlimit(resource.RLIMIT_NOFILE); assert 'mlx_lm' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def _text(tokenizer: Tokenizer, tokens: list[int]) -> str:
    detokenizer = tokenizer.detokenizer()
    for token in tokens:
        detokenizer.add_token(token)
    detokenizer.finalize()
    return detokenizer.last_segment


@given(st.text(max_size=200) | st.text("word \n<|im_end|>é", max_size=400))
def test_no_text_has_fewer_tokens_than_it_has_at_least(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.fewest_tokens(text) <= len(tokenizer.encode(text))
    assert tokenizer.fewest_tokens("word " * 10_000) > 500
