"""Keys and values in 8 bits over two ranks; and a model that cannot compute on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from mlxserve.engine.prefix import FEWEST_NEW
from mlxserve.models.source import find_model
from tests.models.tiny import tiny_config, tiny_weights, write_folder
from tests.system.question import Question, ask, ask_at_once, ask_each
from tests.system.server import Server, start
from tests.system.test_mistakes import ends_with

Own = Callable[[Server], Server]
CAPITALS = {"Greece": "Athens", "Egypt": "Cairo", "Japan": "Tokyo", "Germany": "Berlin"}
"""Questions whose every token leads the next likeliest by more than 0.5; France's first leads by 0.08 only."""


def test_answers_from_eight_bits_make_sense(own: Own) -> None:
    server = own(start(2, "--kv-bits", "8"))
    server.wait_until("healthy")
    questions = [Question(f"What is the capital of {country}?", 16) for country in CAPITALS]
    together = ask_at_once(server, questions)
    for answer, city in zip(together, CAPITALS.values(), strict=True):
        assert city in answer.text
    again = ask_each(server, questions)
    assert [answer.text for answer in again] == [answer.text for answer in together]
    assert all(answer.cached >= answer.usage.prompt_tokens - FEWEST_NEW for answer in again)
    assert ask(server, Question("What is the capital of Egypt?", 20)).text == "The capital of Egypt is Cairo."


def test_a_model_whose_heads_are_too_narrow_for_it_ends_all_ranks(own: Own, tmp_path: Path) -> None:
    config = tiny_config("llama")
    folder = write_folder(tmp_path / "narrow", config, tiny_weights(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(find_model("demo", lambda text: None).folder) / name, folder)
    server = own(start(2, "--kv-bits", "8", model=str(folder)))
    ends_with(server, 2, "--kv-bits 8: no KV cache of this model can be quantized")
