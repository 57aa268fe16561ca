from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from mlxserve.config import Place, Settings
from mlxserve.engine.draft_model import DraftModel
from mlxserve.engine.drafting import load_draft_model
from mlxserve.engine.messages import Sampling
from mlxserve.engine.pace import Pace
from mlxserve.engine.sequence import Sequence
from mlxserve.errors import UserError
from mlxserve.pipeline.pipeline import OneRank
from mlxserve.pipeline.stage import Stage
from tests.engine import tiny
from tests.engine.tiny import GREEDY, VOCABULARY, Log, Priced, alone, scheduler, submit, works
from tests.models.tiny import tiny_config, tiny_weights, write_folder

PROMPTS = [[(7 * row + 3 * column * column) % 500 for column in range(9 + 25 * row)] for row in range(5)]
SETTINGS = [
    Sampling(4, 1.0),
    Sampling(5, 1.0),
    Sampling(6, 0.8, 0.9, 40, 0.02),
    GREEDY,
    Sampling(7, 1.0, presence_penalty=0.5),
]
CHEAP = 0.01
"""What a token more costs, as a share of a pass."""


@cache
def stage(seed: int, vocabulary: int) -> Stage:
    """A model like the large one in these tests; with seed 0 and as many tokens the same, in memory of its own."""
    return tiny.stage.__wrapped__(seed=seed, vocabulary=vocabulary)


class Counted(DraftModel):
    """Counts how often it is asked."""

    asked = 0

    def guess(self, sequences: list[Sequence], count: int) -> list[list[int]]:
        self.asked += 1
        return super().guess(sequences, count)


def draft_model(seed: int = 0, vocabulary: int = VOCABULARY) -> Counted:
    stage(seed, vocabulary).reset()
    return Counted(OneRank(stage(seed, vocabulary), True), VOCABULARY, Free(1))


class Free(Pace):
    """A pace by which the draft model takes next to no time."""

    def tick(self, tokens: int, together: bool = False) -> float:
        return 1e-5


def request(number: int, tokens: int = 40) -> Sequence:
    return submit(number, PROMPTS[number], tokens, SETTINGS[number])


@cache
def expected() -> dict[int, list[int]]:
    """The answers without guesses."""
    return {number: alone(request(number)) for number in range(5)}


@pytest.mark.parametrize(
    ("ranks", "seed", "vocabulary"),
    [(1, 0, VOCABULARY), (2, 1, VOCABULARY), (1, 1, VOCABULARY), (2, 2, 480), (1, 3, 600)],
)
def test_whatever_the_draft_model_guesses_the_answers_are_those_without(ranks: int, seed: int, vocabulary: int) -> None:
    engine = scheduler(pace=Priced(ranks, CHEAP), draft_model=draft_model(seed, vocabulary))
    log = Log()
    for number in range(5):
        engine.add(request(number))
        for _ in range(2):
            log.step(engine)
    assert log.run(engine).tokens == expected()
    assert any(work.tokens.shape[1] > 1 for work in works(engine))


def test_a_draft_model_that_agrees_saves_nearly_all_passes() -> None:
    engine = scheduler(pace=Priced(1, CHEAP), draft_model=draft_model())
    engine.add(request(1, tokens=160))
    assert len(Log().run(engine).tokens[1]) == 160
    assert len(works(engine)) < 20


def test_a_draft_model_that_never_agrees_is_hardly_asked() -> None:
    drafting = draft_model(seed=1)
    engine = scheduler(pace=Priced(1, 0.2), draft_model=drafting)
    engine.add(submit(1, PROMPTS[1], 160, Sampling(5, 0.1)))
    Log().run(engine)
    assert 0 < drafting.asked < 12


def test_a_long_prompt_is_read_in_chunks_and_guessed_for_afterwards() -> None:
    prompt = [(11 * at * at + 5 * at) % 500 for at in range(700)]
    drafting, sequence = draft_model(), submit(1, prompt, 40, SETTINGS[0])
    sequence.sampled = 1
    sequence.tokens.append(3)
    ready = [drafting.prepare([sequence]) for _ in range(3)]
    assert ready == [[False], [False], [True]]
    wanted = alone(submit(2, prompt, 40, SETTINGS[0]))
    engine = scheduler(pace=Priced(1, CHEAP), draft_model=drafting)
    sequence = submit(2, prompt, 40, SETTINGS[0])
    engine.add(sequence)
    assert Log().run(engine).tokens[2] == wanted
    assert len(works(engine)) < 15


def test_it_keeps_up_with_what_was_written_without_it() -> None:
    """For hundreds of tokens nothing is asked of it; then its guesses are right again."""
    drafting = draft_model()
    answers = {number: alone(request(number, tokens=120)) for number in (0, 1)}
    rows = [request(number, tokens=120) for number in (0, 1)]
    assert follow(drafting, rows, answers, 5)
    assert follow(drafting, rows[:1], answers, 80)
    assert follow(drafting, rows, answers, 20)


def follow(drafting: DraftModel, rows: list[Sequence], answers: dict[int, list[int]], tokens: int) -> bool:
    """Let so many tokens come, then ask: are four guesses of each right?"""
    for row in rows:
        row.tokens += answers[row.id][row.emitted : row.emitted + tokens]
        row.sampled = row.emitted = row.emitted + tokens
    while not all(drafting.prepare(rows)):
        pass
    guesses = drafting.guess(rows, 4)
    return guesses == [answers[row.id][row.emitted : row.emitted + 4] for row in rows]


def test_wrong_guesses_and_ended_sequences_are_forgotten() -> None:
    drafting = draft_model()
    answers = expected()
    rows = [request(number) for number in (0, 1, 2)]
    assert follow(drafting, rows, answers, 3)
    for row in rows:
        row.sampling = Sampling(99, 3.0)  # guesses that nobody would draw
    drafting.guess(rows, 8)
    for row in rows:
        row.sampling = SETTINGS[row.id]
    rows[1].done = True
    assert follow(drafting, [rows[0], rows[2]], answers, 5)
    assert follow(drafting, [rows[2]], answers, 1)


def folder(path: Path, vocabulary: int, offset: int = 0) -> Path:
    config = tiny_config("qwen2", vocab_size=vocabulary)
    write_folder(path, config, tiny_weights(config))
    words = {f"word{number + offset}": number for number in range(vocabulary)}
    Tokenizer(WordLevel(words, unk_token=f"word{offset}")).save(str(path / "tokenizer.json"))
    return path


def settings(draft: Path) -> Settings:
    return Settings(Place(0, 2), model="another", split=(1, 3), draft_model=str(draft))


def test_a_model_of_the_same_vocabulary_is_loaded_wholly_on_one_rank(tmp_path: Path) -> None:
    large, small = folder(tmp_path / "large", 500), folder(tmp_path / "small", 500)
    drafting = load_draft_model(settings(small), large, 512, lambda text: None)
    sequence = submit(1, [5, 6, 7])
    assert drafting.prepare([sequence]) == [True]
    (guess,) = drafting.guess([sequence], 3)
    assert all(0 <= token < 500 for token in guess)


def test_a_model_of_another_vocabulary_is_refused_with_both_figures(tmp_path: Path) -> None:
    large, small = folder(tmp_path / "large", 500), folder(tmp_path / "small", 400)
    with pytest.raises(UserError, match=r"400 tokens.* has 500"):
        load_draft_model(settings(small), large, 512, lambda text: None)
    other = folder(tmp_path / "other", 500, offset=30)
    with pytest.raises(UserError, match=r"500 of its 500 tokens"):
        load_draft_model(settings(other), large, 512, lambda text: None)


def test_where_tokenizers_cannot_be_compared_the_logits_are(tmp_path: Path) -> None:
    small = folder(tmp_path / "small", 400)
    (small / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"400 tokens.* has 512"):
        load_draft_model(settings(small), small, 512, lambda text: None)
