"""The scheduler, put together from the settings and from what every rank has told of itself."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mlxserve.config import Settings
from mlxserve.engine.draft_model import DraftModel
from mlxserve.engine.memory import Bound, Ledger, bounds
from mlxserve.engine.pace import Pace
from mlxserve.engine.prefill import MOST_CHUNK_TOKENS
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.prefix_record import PrefixRecord
from mlxserve.engine.scheduler import Limits, Scheduler
from mlxserve.engine.speculation import MOST_GUESSES, Speculation
from mlxserve.errors import UserError
from mlxserve.pipeline.link import Loaded
from mlxserve.pipeline.pipeline import Pipeline
from mlxserve.pipeline.segment_files import SegmentFiles


@dataclass(frozen=True)
class Assembly:
    """What the ranks can do together; `ranks` has what each told, rank 0 first."""

    settings: Settings
    ranks: list[Loaded]

    @property
    def batchable(self) -> bool:
        """Whether all can run several sequences as one batch."""
        return all(rank.batchable for rank in self.ranks)

    @property
    def cuttable(self) -> bool:
        """Whether all can forget any number of tokens at the end of a sequence."""
        return all(rank.cuttable for rank in self.ranks)

    def beside(self, taken: int) -> Assembly:
        """The same where `taken` bytes of rank 0's memory hold another model."""
        first, *others = self.ranks
        free = max(1, first.free_bytes - taken) if first.free_bytes else 0
        return Assembly(self.settings, [msgspec.structs.replace(first, free_bytes=free), *others])

    def ledger(self) -> Ledger:
        """The memory for running sequences. Raises UserError where there is none."""
        ledger = Ledger(
            [running for running, _ in self._bounds()], self.settings.prefill_step_size or MOST_CHUNK_TOKENS
        )
        if not ledger.longest:
            raise UserError(self._too_little(max(ledger.bytes_of([1]))))
        return ledger

    def _too_little(self, least: int) -> str:
        """Why no sequence fits, however short: that takes `least` bytes."""
        if bound := self.settings.kv_cache_bytes:
            return (
                f"--kv-cache-bytes {bound}: that is too little, the KV caches of even the shortest sequence take "
                f"{least} bytes. Give more, or leave it out."
            )
        advice = "say how much there is with --kv-cache-bytes"
        if self.settings.prefix_cache_bytes > 0:
            advice = f"lower --prefix-cache-bytes, which is {self.settings.prefix_cache_bytes}"
        return (
            "there is no memory left for KV caches after loading: close other programs, take a smaller model, "
            f"more machines or --kv-bits 8, or {advice}"
        )

    def prefixes(self) -> PrefixIndex | None:
        """An empty index for stored prefixes, where there is room for any."""
        stored = [stored for _, stored in self._bounds()]
        return PrefixIndex(stored, self.cuttable) if all(bound.bytes for bound in stored) else None

    def resume(self, prefixes: PrefixIndex, files: SegmentFiles, pipeline: Pipeline) -> PrefixRecord:
        """Take over what every rank still has of a former run, and keep a record of it from now on."""
        record = PrefixRecord(prefixes, files.write_index)
        operations = prefixes.restore(files.read_index(), [rank.stored_lengths for rank in self.ranks])
        pipeline.tick([*operations], None)
        while pipeline.in_flight:
            pipeline.tick([], None)
        return record

    def scheduler(
        self,
        pipeline: Pipeline,
        pace: Pace,
        ledger: Ledger,
        prefixes: PrefixIndex | None,
        draft_model: DraftModel | None,
    ) -> Scheduler:
        """One with nothing to do."""
        settings = self.settings
        limits = Limits(
            settings.decode_concurrency,
            settings.prompt_concurrency,
            settings.prefill_step_size,
            settings.prefill_share,
            keeps_room=self.cuttable,
        )
        return Scheduler(pipeline, limits, pace, ledger, prefixes, self._speculation(pace, draft_model))

    def _speculation(self, pace: Pace, draft_model: DraftModel | None) -> Speculation | None:
        if self.settings.speculation == "off" or not self.cuttable:
            return None
        most = self.settings.num_draft_tokens or MOST_GUESSES
        return Speculation(pace.seconds, pace.verifying, most, draft_model=draft_model)

    def _bounds(self) -> list[tuple[Bound, Bound]]:
        return [bounds(self.settings, rank.footprint, rank.free_bytes) for rank in self.ranks]
