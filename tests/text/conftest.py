from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxserve.text.tokenizer import Tokenizer, load_tokenizer

from .tokenizer_folder import write_tokenizer_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="session")
def plain(folder: Path) -> Any:
    """The transformers tokenizer itself, to compare with."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
