"""The model's tokenizer as mlx-lm loads it: stop tokens, detokenizers, the chat template."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mlxserve.errors import UserError
from mlxserve.text.template import PLAIN_TEMPLATE, ChatTemplate

log = logging.getLogger(__name__)


class Detokenizer(Protocol):
    """mlx-lm's streaming detokenizer: never ends `last_segment` within a character."""

    @property
    def last_segment(self) -> str:
        """The text that became certain since it was last asked for."""

    def add_token(self, token: int) -> None: ...

    def finalize(self) -> None:
        """No more tokens: what is left of an incomplete character becomes U+FFFD."""


class Tokenizer:
    """Tokens to text and chats to tokens, by mlx-lm's wrapper of a transformers tokenizer."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self.stop_tokens: list[int] = sorted(wrapper.eos_token_ids)
        self.chat_template = ChatTemplate(wrapper)

    def detokenizer(self) -> Detokenizer:
        """A fresh one, for one answer."""
        detokenizer: Detokenizer = self._wrapper.detokenizer
        return detokenizer


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
