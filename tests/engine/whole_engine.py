"""An engine with all its ranks in one process, looked at after every step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

from mlxserve.config import Place, Settings
from mlxserve.engine.assembly import Assembly
from mlxserve.engine.draft_model import DraftModel
from mlxserve.engine.memory import Bound, Ledger
from mlxserve.engine.messages import Cancel, Step, Submit
from mlxserve.engine.sequence import Sequence
from mlxserve.pipeline.link import Loaded
from mlxserve.pipeline.loading import LoadedModel, load_model
from mlxserve.pipeline.pipeline import OneRank
from tests.engine.crashing_disk import CrashingDisk
from tests.engine.holdings import Holdings, believed_by, cache_bytes, held_by
from tests.engine.tiny import Priced
from tests.pipeline.all_ranks import AllRanks
from tests.pipeline.one_rank import VOCABULARY, build

CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": {"num_hidden_layers": 3},
    "llama": {"num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "lfm2": {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]},
}
"""Plain attention; sliding windows of 16 tokens and attention; convolutions' states and attention."""
MOST_IDLE_STEPS = 8
"""In a row, without anything that enters: what has entered needs no more to leave the last rank."""
MOST_PASSES = 5000
"""Several times what has been seen to be needed."""


@dataclass(frozen=True)
class Conditions:
    """What an engine runs under."""

    model_type: str
    ranks: int
    memory: tuple[int, int]
    """So many sequences of so many tokens fit."""
    stored: int
    """Tokens of prefixes that may be stored; 0: none are."""
    chunk: int
    rows: int
    token_cost: float
    """A tick with a token more takes this share longer."""
    batchable: bool
    speculates: bool
    drafts: bool
    """Whether a draft model guesses, which has the same weights."""

    @property
    def models(self) -> list[LoadedModel]:
        """Each rank's part."""
        return [part(self.model_type, self.ranks, rank) for rank in range(self.ranks)]

    @property
    def settings(self) -> Settings:
        """As the command line would have given them."""
        rows, tokens = self.memory
        footprints = [model.footprint for model in self.models]
        kv_bytes = max(Ledger([Bound(each, 1)], self.chunk).bytes_of([tokens] * rows)[0] for each in footprints)
        return Settings(
            decode_concurrency=self.rows,
            prefill_step_size=self.chunk,
            kv_cache_bytes=kv_bytes,
            prefix_cache_bytes=max(each.bytes_of(self.stored) for each in footprints) if self.stored else 0,
            speculation="auto" if self.speculates else "off",
        )


@cache
def part(model_type: str, ranks: int = 1, rank: int = 0, copy: str = "") -> LoadedModel:
    """A rank's part of a tiny random model; another `copy` of it has memory of its own."""
    return load_model(build(model_type, **CONFIGS[model_type]), Settings(Place(rank, ranks)))


class WholeEngine:
    """Takes commands, and gives what each step brings."""

    def __init__(self, conditions: Conditions, disks: list[CrashingDisk]) -> None:
        """`disks`: one a rank."""
        models = conditions.models
        batchable = conditions.batchable and all(model.batchable for model in models)
        self.pipeline = AllRanks(models, batchable)
        for disk, stage in zip(disks, self.pipeline.stages, strict=True):
            stage.segments.resume(disk.read(), disk)
        ranks = [_said(model, batchable) for model in models]
        assembly = Assembly(conditions.settings, ranks)
        pace = Priced(conditions.ranks, conditions.token_cost)
        ledger = assembly.ledger()
        self.longest = ledger.longest
        self._bytes = [bound.bytes for bound in ledger._ranks]
        self.prefixes = assembly.prefixes()
        files: Any = disks[0]
        pipeline: Any = self.pipeline
        self._record = assembly.resume(self.prefixes, files, pipeline) if self.prefixes is not None else None
        drafts = _draft_model(conditions.model_type) if conditions.drafts and assembly.cuttable else None
        self.scheduler = assembly.scheduler(pipeline, pace, ledger, self.prefixes, drafts)
        self._cancelled: set[int] = set()
        self._past: deque[tuple[Holdings, list[int]]] = deque(maxlen=conditions.ranks)
        self._seen = self.pipeline.ticks
        self._look_after(conditions.ranks)

    def take(self, command: Submit | Cancel) -> None:
        """As the desk does."""
        if isinstance(command, Submit):
            self.scheduler.add(Sequence.of(command))
        else:
            self.scheduler.cancel(command.id)
            self._cancelled.add(command.id)

    def step(self) -> Step:
        """One step of the scheduler."""
        step = self.scheduler.step()
        self.scheduler.go_on()
        assert not self._cancelled.intersection(new.id for new in step.tokens)
        if self._record:
            self._record.keep(idle=not self.scheduler.busy)
        ticks, self._seen = self.pipeline.ticks - self._seen, self.pipeline.ticks
        self._look_after(ticks)
        return step

    def end(self) -> list[Step]:
        """Steps until nothing is left to do, which must come."""
        steps, idle = list[Step](), 0
        while self.scheduler.busy:
            before = self.pipeline.entered
            steps.append(self.step())
            idle = 0 if self.pipeline.entered > before else idle + 1
            assert idle <= MOST_IDLE_STEPS, "it waits for something that will not come"
            assert len(steps) < MOST_PASSES, "those that were put back read the same again and again"
        return steps

    def check_nothing_left(self) -> None:
        """With nothing to do, no rank has anything but stored prefixes."""
        assert not self.scheduler._open
        assert all(not held_by(stage).batches for stage in self.pipeline.stages)

    def _look_after(self, ticks: int) -> None:
        """All ranks have done the same, each a tick after the one before it, and nothing but what is known."""
        stored = self.prefixes.bytes if self.prefixes is not None else [0] * len(self._bytes)
        self._past.extendleft([(believed_by(self.scheduler), stored)] * ticks)
        for rank, stage in enumerate(self.pipeline.stages):
            due, stored = self._past[rank]
            held = held_by(stage)
            assert held == due, f"rank {rank} has {held}, not {due}"
            assert stage.segments.nbytes == stored[rank]
            assert cache_bytes(stage) <= self._bytes[rank], f"rank {rank}"


def _said(model: LoadedModel, batchable: bool) -> Loaded:
    stage = model.stage
    return Loaded(
        batchable=batchable,
        cuttable=stage.cuttable,
        footprint=model.footprint,
        stored=stage.segments.sizes,
        stored_lengths=stage.segments.lengths,
    )


def _draft_model(model_type: str) -> DraftModel:
    stage = part(model_type, copy="draft").stage
    stage.reset()
    return DraftModel(OneRank(stage, True), VOCABULARY, Priced(1, 0.0))
