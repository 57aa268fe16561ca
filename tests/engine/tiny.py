"""A tiny random model in the engine's own pipeline, and schedulers over it."""

from __future__ import annotations

import sys
from collections import deque
from functools import cache
from typing import Any

import mlx.core as mx
from mlx_lm.utils import _get_classes

from mlxserve.config import Place, Settings
from mlxserve.engine.memory import Bound, Ledger
from mlxserve.engine.messages import Likelihood, Reading, Sampling, Submit
from mlxserve.engine.pace import Kind, Pace
from mlxserve.engine.prefill import tapered
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.scheduler import Limits, Scheduler
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.speculation import DraftingModel, Speculation
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.pipeline import OneRank, Pipeline, Work, token_rows
from mlxserve.pipeline.plan import CacheOperation, Item, Open, Plan
from mlxserve.pipeline.stage import Stage

VOCABULARY = 512
FOOTPRINT = Footprint(token_bytes=100)
GREEDY = Sampling(seed=0, temperature=0.0)


@cache
def stage(ranks: int = 1, rank: int = 0, seed: int = 0, vocabulary: int = VOCABULARY) -> Stage:
    """The layers of a tiny qwen2 that belong to one rank; the same for equal seeds and vocabularies."""
    config = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
    }
    mx.random.seed(seed)
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.eval()
    return load_model(model, Settings(Place(rank, ranks))).stage


class Staged:
    """Several ranks in one process: an item is at the next rank at the next tick, as on a conveyor."""

    def __init__(self, ranks: int, batchable: bool) -> None:
        self.depth = ranks
        self.batchable = batchable
        self.runs_on = self.starts_slowly = False
        self.busy_seconds, self.tokens = 0.0, 0
        self._stages = [stage(ranks, rank) for rank in range(ranks)]
        self._plans: deque[Plan | None] = deque([None] * ranks, maxlen=ranks)
        self._handed: list[list[mx.array]] = [[]] * ranks

    @property
    def in_flight(self) -> bool:
        return any(plan and (plan.item or plan.operations) for plan in list(self._plans)[:-1])

    def tick(
        self, operations: list[CacheOperation], work: Work | None, nothing_follows: bool = False
    ) -> mx.array | None:
        alone = nothing_follows and not self.in_flight
        item = Item(work.batch, token_rows(work.tokens), work.lengths, work.logits) if work else None
        left = self._advance(Plan(0, operations, item))
        for _ in range(self.depth - 1 if alone else 0):
            left = self._advance(Plan(0, [], None)) if left is None else left
        return left

    def _advance(self, plan: Plan) -> mx.array | None:
        self._plans.appendleft(plan)
        incoming: list[list[mx.array]] = [[], *self._handed[:-1]]
        for rank, (stage, due) in enumerate(zip(self._stages, self._plans, strict=True)):
            self._handed[rank] = []
            for operation in due.operations if due else []:
                stage.apply(operation)
            if due and due.item:
                self._handed[rank] = stage.forward(due.item, incoming[rank])
                mx.eval(self._handed[rank], stage.state(due.item.batch))
        last, due = self._handed[-1], self._plans[-1]
        if not last or due is None or due.item is None or due.item.logits == "none":
            return None
        return self._stages[0].finish(self._stages[-1].leaving(last, due.item), due.item)


class Priced(Pace):
    """A pace that is known: a tick takes 10 ms, and for each token this share of that more."""

    def __init__(self, ranks: int, token_cost: float) -> None:
        super().__init__(ranks)
        self._token_cost = token_cost

    def knows(self, tokens: int, kind: Kind = "alone") -> bool:
        return True

    def tick(self, tokens: int, kind: Kind = "alone") -> float:
        return 0.01 * (1 + self._token_cost * tokens)


def cut(unread: int, size: int, longest: int, ranks: int = 2) -> list[int]:
    """The chunks that `unread` tokens are read in, one after the other."""
    sizes = list[int]()
    while unread:
        sizes.append(tapered(unread, size, longest, ranks))
        unread -= sizes[-1]
    return sizes


def scheduler(
    batchable: bool = True,
    chunk: int = 256,
    rows: int = 32,
    pace: Pace | None = None,
    kv_bytes: int = sys.maxsize,
    prefix_bytes: int = 0,
    speculates: bool = False,
    draft_model: DraftingModel | None = None,
    prefill_share: float = 0.5,
    runs_on: bool = True,
    starts_slowly: bool = True,
) -> Scheduler:
    """A scheduler with nothing to do, over as many ranks as its pace is of."""
    pace = pace or Pace(1)
    pipeline: Pipeline
    if pace.ranks == 1:
        stage().reset()
        pipeline = OneRank(stage(), batchable)
        pipeline.runs_on, pipeline.starts_slowly = runs_on, starts_slowly
    else:
        for rank in range(pace.ranks):
            stage(pace.ranks, rank).reset()
        pipeline = Staged(pace.ranks, batchable)
    bounds = [Bound(FOOTPRINT, kv_bytes)] * pace.ranks
    prefixes = PrefixIndex([Bound(FOOTPRINT, prefix_bytes)] * pace.ranks, cuttable=True) if prefix_bytes else None
    speculation = None
    if speculates or draft_model:
        speculation = Speculation(pace.seconds, pace.verifying, draft_model=draft_model)
    limits = Limits(rows, 8, chunk, prefill_share, keeps_room=True)
    return Scheduler(Recorded(pipeline), limits, pace, Ledger(bounds), prefixes, speculation)


class Recorded:
    """A pipeline that remembers what entered it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.works: list[Work] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def tick(
        self, operations: list[CacheOperation], work: Work | None, nothing_follows: bool = False
    ) -> mx.array | None:
        if work:
            self.works.append(work)
        return self._pipeline.tick(operations, work, nothing_follows)


def works(scheduler: Scheduler) -> list[Work]:
    """What has entered its pipeline."""
    assert isinstance(scheduler._pipeline, Recorded)
    return scheduler._pipeline.works


def submit(
    number: int,
    prompt: list[int],
    tokens: int = 12,
    sampling: Sampling = GREEDY,
    stop: int = -1,
    top_logprobs: int = -1,
    prompt_logprobs: bool = False,
    client: str = "",
) -> Sequence:
    """A sequence to be added."""
    return Sequence.of(Submit(number, prompt, sampling, tokens, [stop], top_logprobs, prompt_logprobs, client=client))


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
        scheduler.go_on()
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
