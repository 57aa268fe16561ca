"""Two ranks that each have a share of every layer answer as one rank does; and what cannot be shared out is refused."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlxserve.models.source import find_model
from tests.models.tiny import tiny_config, tiny_weights, write_folder
from tests.ports import free_port
from tests.system.question import Answer, Question, ask, ask_at_once, ask_each
from tests.system.server import MLXSERVE, BareRank, Server, start, write_hostfile
from tests.system.test_mistakes import ends_with
from tests.system.test_prefixes import wait_for_index

Own = Callable[[Server], Server]
TENSOR = ("--parallel", "tensor")
MIXTURE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [1],
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
}
MODELS: dict[str, dict[str, Any]] = {"llama": {}, "qwen3": {}, "qwen3_moe": MIXTURE}
QUESTIONS = [
    *(Question(f"Tell me about {topic}.", 24) for topic in ("a lighthouse", "the sea", "a violin")),
    *(Question(f"Tell me about {topic}.", 24, temperature=0.8, seed=7) for topic in ("bread", "chess", "tea")),
]


def model_folder(folder: Path, model_type: str) -> Path:
    """A tiny random model with the demo model's tokenizer."""
    demo = find_model("demo", lambda text: None)
    config = tiny_config(model_type, **MODELS[model_type] | {"vocab_size": demo.config["vocab_size"]})
    write_folder(folder, config, tiny_weights(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(demo.folder) / name, folder)
    return folder


def texts(answers: list[Answer]) -> list[str]:
    return [answer.text for answer in answers]


@pytest.mark.parametrize("model_type", MODELS)
def test_answers_are_those_of_one_rank_alone_and_together(own: Own, tmp_path: Path, model_type: str) -> None:
    folder = str(model_folder(tmp_path / "model", model_type))
    one, two = own(start(1, model=folder)), own(start(2, *TENSOR, model=folder))
    one.wait_until()
    expected = texts(ask_each(one, QUESTIONS))
    health = two.wait_until()
    assert health["parallel"] == "tensor"
    assert [rank["layers"] for rank in health["ranks"]] == [[0, 3], [0, 3]]
    assert texts(ask_at_once(two, QUESTIONS)) == expected
    again = ask_each(two, QUESTIONS)
    assert texts(again) == expected
    assert all(answer.cached > 0 for answer in again)


def test_a_worker_has_its_share_of_the_layers_and_what_it_embeds_with_in_memory(own: Own) -> None:
    one, three = own(start(1)), own(start(3, *TENSOR))
    config = find_model("demo", lambda text: None).config
    embedding = config["vocab_size"] * config["hidden_size"] * 4
    one.wait_until()
    three.wait_until()
    whole, *shares = (
        rank["memory"]["weights"]
        for server in (one, three)
        for rank in httpx.get(f"{server.url}/traffic?day=0").json()["ranks"]
    )
    for share in shares:
        assert share - embedding == pytest.approx((whole - embedding) / 3, rel=0.03)


def test_prefixes_outlive_a_restart_and_are_of_no_use_to_ranks_that_have_whole_layers(own: Own, tmp_path: Path) -> None:
    folder, stored = str(model_folder(tmp_path / "model", "qwen3")), ("--prefix-cache-dir", str(tmp_path / "prefixes"))
    question = Question("Tell me about the harbour, its keeper and the green bottle. " * 5, 8)
    found = []
    for flags in (TENSOR, TENSOR, ()):
        server = own(start(2, *flags, *stored, model=folder))
        server.wait_until()
        found.append(ask(server, question))
        wait_for_index(tmp_path / "prefixes")
        server.process.send_signal(signal.SIGTERM)
        assert server.exit_code(10) == 0
    assert len(set(texts(found))) == 1
    cached = [answer.cached for answer in found]
    assert cached[0] == cached[2] == 0
    assert cached[1] > 0


def test_heads_that_cannot_be_divided_end_every_rank(own: Own) -> None:
    server = own(start(2, *TENSOR))
    ends_with(server, 2, "model type 'llama' cannot be run tensor parallel on 2 ranks: its 9 attention heads")


def test_ranks_that_are_started_with_different_modes(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    folder = str(model_folder(tmp_path / "model", "llama"))
    first = own(BareRank(0, hostfile, port, *TENSOR, model=folder))
    second = own(BareRank(1, hostfile, port, "--parallel", "pipeline", model=folder))
    for rank in (first, second):
        ends_with(rank, 2, "has the parallel mode pipeline, rank 0 has the parallel mode tensor")


def test_without_a_mode_of_its_own_a_rank_does_as_rank_0_does(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    folder = str(model_folder(tmp_path / "model", "llama"))
    first = own(BareRank(0, hostfile, port, *TENSOR, model=folder))
    own(BareRank(1, hostfile, port, "--parallel", "auto", model=folder))
    assert first.wait_until()["parallel"] == "tensor"


def test_a_worker_without_the_model_is_given_what_it_takes_its_shares_of(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    folder, empty = model_folder(tmp_path / "model", "qwen3"), tmp_path / "empty"
    empty.mkdir()
    first = own(BareRank(0, hostfile, port, *TENSOR, model=str(folder)))
    second = own(BareRank(1, hostfile, port, *TENSOR, model=str(empty), environment={"HF_HUB_OFFLINE": "1"}))
    one = own(start(1, model=str(folder)))
    for server in (first, one):
        server.wait_until()
    assert "bytes of weights from rank 0" in second.output
    assert texts(ask_at_once(first, QUESTIONS)) == texts(ask_each(one, QUESTIONS))


def test_an_adapter_is_not_cut_into_shares(own: Own, tmp_path: Path) -> None:
    server = own(start(2, *TENSOR, "--adapter", str(tmp_path)))
    ends_with(server, 2, "--adapter is cut by whole layers alone: take --parallel pipeline")


def test_check_tells_what_auto_would_take_and_why(own: Own) -> None:
    server = own(Server([MLXSERVE, "check", "-n", "2"], port=0))
    assert server.exit_code(60) == 0
    (line,) = (line for line in server.output.splitlines() if "ok  parallel" in line)
    assert "pipeline: as --parallel says; auto would take" in line
    assert "8 layers and 16 sums" in line
