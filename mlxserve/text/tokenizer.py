"""The model's tokenizer as mlx-lm loads it: stop tokens, detokenizers, the chat template."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mlxserve.errors import UserError
from mlxserve.text.detokenizer import Detokenizer
from mlxserve.text.format import OutputFormat
from mlxserve.text.infill import Infill
from mlxserve.text.pieces import TokenLogprob, TokenText
from mlxserve.text.shared_beginning import SharedBeginnings
from mlxserve.text.template import PLAIN_TEMPLATE, ChatTemplate
from mlxserve.text.token_bytes import TokenBytes

log = logging.getLogger(__name__)


class Tokenizer:
    """Tokens to text and chats to tokens, by mlx-lm's wrapper of a transformers tokenizer."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._bytes = TokenBytes(wrapper)
        self.stop_tokens: list[int] = sorted(wrapper.eos_token_ids)
        self.chat_template = ChatTemplate(wrapper)
        self.shared_beginnings = SharedBeginnings(self.chat_template)
        self.format = OutputFormat.of(wrapper)
        self.infill = Infill.of(wrapper)
        """How a gap in a text is filled; None if the model was not trained to."""
        self._word = self.encode("a", special=False)

    def detokenizer(self, continues: bool = False) -> Detokenizer:
        """A fresh one, for one answer, whose leading space it drops, unless the answer `continues` a text."""
        detokenizer = Detokenizer(self._wrapper.detokenizer)
        if continues:
            for token in self._word:  # only text at the very beginning loses its space
                detokenizer.add_token(token)
            assert detokenizer.last_segment
        return detokenizer

    @property
    def think_end_tokens(self) -> list[int]:
        """What ends the model's reasoning; empty if it does not reason."""
        return list(self._wrapper.think_end_tokens or [])

    def is_thinking(self, prompt: list[int]) -> bool:
        """Whether `prompt` ends within the model's reasoning."""
        if not self.format.has_thinking:
            return False
        return bool(self._wrapper.rfind_think_start(prompt) > self._wrapper.rfind_think_end(prompt))

    def logprob(self, token: int, logprob: float, top: Sequence[tuple[int, float]]) -> TokenLogprob:
        """A token and the likeliest in its place, as texts."""
        return TokenLogprob(self._text(token, logprob), [self._text(*one) for one in top])

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The tokens of `text` as it is; with `special`, what the tokenizer begins a text with before them."""
        ids: list[int] = self._wrapper.encode(text, add_special_tokens=special)
        return ids

    def fewest_tokens(self, text: str) -> int:
        """How many tokens `text` has at least, known without encoding it: a megabyte takes more than a second."""
        return -(-len(text) // self._longest)

    @cached_property
    def _longest(self) -> int:
        """Characters that a token stands for at most: of some it is the half of one, of none more than its name has."""
        return max(map(len, self._wrapper.get_vocab()))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, control tokens too."""
        text: str = self._wrapper.decode(list(tokens))
        return text

    def encode_plain(self, text: str) -> list[int]:
        """The tokens of `text`, in which control tokens are text like any other. Raises PromptRefused."""
        return self.chat_template.encode_plain(text)

    def encode_within(self, text: str) -> list[int]:
        """As `encode_plain`, but of `text` within a longer one, before which SentencePiece puts no space."""
        tokens = self.encode_plain(text)
        if b"".join(map(self.bytes_of, tokens)) == text.encode():
            return tokens
        newline, after_newline = self.encode_plain("\n"), self.encode_plain(f"\n{text}")
        return after_newline[len(newline) :] if after_newline[: len(newline)] == newline else tokens

    def bytes_of(self, token: int) -> bytes:
        """What `token` stands for: perhaps a part of a character only."""
        return self._bytes.of(token)

    def control_token(self, kind: Literal["bos", "eos", "pad"]) -> str | None:
        """What the tokenizer has for the beginning or the end of a sequence, or for filling."""
        token: str | None = getattr(self._wrapper, f"{kind}_token")
        return token

    @property
    def bos_token_id(self) -> int | None:
        """What begins a sequence, if there is such a token."""
        number: int | None = self._wrapper.bos_token_id
        return number

    def _text(self, token: int, logprob: float) -> TokenText:
        found = self._bytes.of(token)
        return TokenText(found.decode(errors="replace"), tuple(found), logprob)


def load_tokenizer(folder: Path, chat_template: str = "") -> Tokenizer:
    """Load the tokenizer in `folder`; `chat_template` (a template or a file with one) replaces the model's own.

    Blocks for about a second. Raises UserError if there is no such template, or no tokenizer that can be loaded.
    """
    template = _read_template(chat_template)
    try:
        wrapper = _load(folder, template)
    except Exception as error:  # whatever a broken file makes json, tokenizers, transformers or mlx-lm raise
        sentence = " ".join(str(error).split())
        raise UserError(f"The tokenizer in {folder} cannot be loaded: {sentence[:400]}") from error
    if template:
        wrapper._chat_template = None  # a renderer written in Python, which some models have
    elif not wrapper.has_chat_template:
        log.warning("the model has no chat template: messages become plain lines, each with its role before it")
        wrapper.chat_template = _plain_template(wrapper)
    return Tokenizer(wrapper)


def import_mlx_lm() -> None:
    """Import mlx_lm, which takes about a second. Call it in the main thread before another thread loads a tokenizer.

    It makes a stream for the thread that imports it. Where that thread ended before the process did, the process
    aborted at its end more often than not, on a busy machine (mlx 0.32.4, Linux).
    """
    with _file_limit_kept():
        import mlx_lm.utils  # noqa: F401


def _load(folder: Path, template: str) -> Any:
    import_mlx_lm()
    from mlx_lm.utils import load_config, load_tokenizer

    options: dict[str, Any] = {"trust_remote_code": False}
    if template:
        options["chat_template"] = template
    return load_tokenizer(folder, options, eos_token_ids=load_config(folder).get("eos_token_id"))


@contextmanager
def _file_limit_kept() -> Iterator[None]:
    """Importing mlx_lm lowers RLIMIT_NOFILE, the hard limit too, which only root could raise again."""
    setrlimit = resource.setrlimit
    resource.setrlimit = lambda *limits: None
    try:
        yield
    finally:
        resource.setrlimit = setrlimit


def _read_template(chat_template: str) -> str:
    if not chat_template or "{%" in chat_template or "{{" in chat_template:
        return chat_template
    try:
        return Path(chat_template).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The chat template {chat_template} cannot be read: {error}") from error


def _plain_template(wrapper: Any) -> str:
    """Templates write the beginning-of-sequence token themselves: so must this, where the tokenizer would."""
    begins = wrapper.bos_token_id is not None and wrapper.encode("")[:1] == [wrapper.bos_token_id]
    return ("{{ bos_token }}" if begins else "") + PLAIN_TEMPLATE
