"""A tiny random model in the engine's own pipeline, and schedulers over it."""

from __future__ import annotations

from functools import cache

import mlx.core as mx
from mlx_lm.utils import _get_classes

from mlxserve.config import Settings
from mlxserve.engine.messages import Likelihood, Reading, Sampling, Submit
from mlxserve.engine.scheduler import Limits, Scheduler
from mlxserve.engine.sequence import Sequence
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.pipeline import OneRank, Work
from mlxserve.pipeline.plan import Open
from mlxserve.pipeline.stage import Stage

VOCABULARY = 512
GREEDY = Sampling(seed=0, temperature=0.0)


@cache
def stage() -> Stage:
    """All layers of a tiny qwen2."""
    config = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
    }
    mx.random.seed(0)
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.eval()
    return load_model(model, Settings()).stage


def scheduler(batchable: bool = True, chunk: int = 256, rows: int = 32) -> Scheduler:
    """A scheduler with nothing to do."""
    stage().reset()
    return Scheduler(OneRank(stage(), batchable), Limits(rows, 8, chunk))


def submit(
    number: int,
    prompt: list[int],
    tokens: int = 12,
    sampling: Sampling = GREEDY,
    stop: int = -1,
    top_logprobs: int = -1,
    prompt_logprobs: bool = False,
) -> Sequence:
    """A sequence to be added."""
    return Sequence.of(Submit(number, prompt, sampling, tokens, [stop], top_logprobs, prompt_logprobs))


def logits_after(tokens: list[int]) -> mx.array:
    """What the model says after each of `tokens`: [tokens, vocabulary], float32, by one plain pass."""
    stage().reset()
    pipeline = OneRank(stage(), True)
    logits = pipeline.tick([Open(1, 1)], Work(1, mx.array([tokens]), [], "all"))
    assert logits is not None
    return logits[0].astype(mx.float32)


class Log:
    """What a scheduler's steps brought, by sequence."""

    def __init__(self) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.finish: dict[int, str] = {}
        self.reading: list[Reading] = []
        self.likelihoods: dict[int, list[Likelihood]] = {}
        self.prompts: dict[int, list[Likelihood]] = {}
        self.failed: dict[int, str] = {}

    def step(self, scheduler: Scheduler) -> None:
        """One step."""
        step = scheduler.step()
        self.reading += step.reading
        self.failed |= {failed.id: failed.message for failed in step.failed}
        for told in step.prompts:
            self.prompts.setdefault(told.id, []).extend(told.likelihoods)
        for new in step.tokens:
            assert new.id not in self.finish, "a token after the finish"
            self.tokens.setdefault(new.id, []).append(new.token)
            if new.likelihood:
                self.likelihoods.setdefault(new.id, []).append(new.likelihood)
            if new.finish:
                self.finish[new.id] = new.finish

    def run(self, scheduler: Scheduler) -> Log:
        """Steps until nothing is left to do."""
        while scheduler.busy:
            self.step(scheduler)
        return self


def alone(sequence: Sequence) -> list[int]:
    """The tokens of a sequence that has the scheduler for itself."""
    only = scheduler()
    only.add(sequence)
    return Log().run(only).tokens[sequence.id]
