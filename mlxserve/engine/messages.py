"""What node and engine process say to each other over their pipe: MessagePack, one message a frame.

The node sends commands, the engine sends events. Tokens travel as integers; text never does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Literal

import msgspec

from mlxserve.config import Capacity, Parallel, Passes

FinishReason = Literal["stop", "length"]


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How one sequence's tokens are drawn.

    `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are off, and so are penalties of 0, and of 1 for repetition.
    """

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: list[tuple[int, float]] = []
    """What is added to the logits of tokens."""


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Read `prompt` and generate up to `max_tokens` tokens, or until one of `stop_tokens`."""

    id: int
    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    stop_tokens: list[int]
    top_logprobs: int = -1
    """So many of the likeliest tokens are told with each token, and its own log-probability; -1: not even that."""
    prompt_logprobs: bool = False
    """Whether the same is told of the prompt's tokens."""
    grammar: str = ""
    """What the answer must follow, as llguidance writes grammars."""
    borders: list[int] = []
    """Lengths of beginnings of the prompt that others are likely to share: the system prompt's end."""
    answered: list[int] = []
    """Tokens that an engine which was lost had generated: they count among `max_tokens`, and are not told again."""
    client: str = ""
    """Who asks: those that wait are served in turn. Nothing but equality can be told by it."""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for this sequence any more. Unknown ids are ignored."""

    id: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End, and tell every rank to, for this reason and with this exit code."""

    reason: str = "asked to end"
    exit_code: int = 0


class AskToDrain(msgspec.Struct, frozen=True, tag="ask-to-drain"):
    """To a worker's engine: the server is to end as soon as its answers have; rank 0 is to see to it."""


Command = Submit | Cancel | Shutdown | AskToDrain


class MemoryFacts(msgspec.Struct, frozen=True):
    """One rank's memory, in bytes; 0 where it is not known."""

    weights: int = 0
    kv: int = 0
    """Caches of running sequences."""
    prefix: int = 0
    """Stored prefixes."""
    cache: int = 0
    """Buffers that MLX has freed and keeps for reuse."""
    free: int = 0
    """What programs may still take of the machine; on a Mac what its GPU should be given beside what this rank has."""
    total: int = 0
    """All that the machine has."""


class LinkFacts(msgspec.Struct, frozen=True):
    """What one rank gives to the next."""

    to: int = -1
    """The rank that it gives to; -1: there is no other."""
    seconds: float = 0.0
    """Of the quickest exchange in the last seconds, which all ranks take part in; 0: not known."""
    bytes_per_second: float = 0.0


class RankFacts(msgspec.Struct, frozen=True):
    """One rank, as /health and /traffic show it."""

    rank: int
    host: str
    pid: int
    device: str
    first_layer: int
    last_layer: int
    memory_bytes: int
    peak_memory_bytes: int = 0
    tokens_per_second: float = 0.0
    busy: float = 0.0
    """Share of the last seconds in which this rank computed, 0 to 1."""
    expected_seconds: float = 0.0
    """What a token takes here by the bytes that it reads and the speed that was measured; 0: not known."""
    memory: MemoryFacts = MemoryFacts()
    link: LinkFacts = LinkFacts()


class Sums(msgspec.Struct):
    """What an engine has done since it began."""

    prefix_asked: int = 0
    """Tokens of prompts that were looked for among the stored prefixes…"""
    prefix_found: int = 0
    """…and those of them that were there."""
    drafted: int = 0
    """Tokens that were guessed…"""
    accepted: int = 0
    """…and those of them that were right."""
    decode_steps: int = 0
    decode_rows: int = 0
    """Sequences of all decode steps together."""
    chunks: int = 0
    """Chunks of prompts…"""
    chunk_tokens: int = 0
    """…and their tokens."""
    put_backs: int = 0
    """How often a sequence was put back for want of memory."""

    def __add__(self, other: Sums) -> Sums:
        return self._with(other, operator.add)

    def __sub__(self, other: Sums) -> Sums:
        return self._with(other, operator.sub)

    def _with(self, other: Sums, combine: Callable[[int, int], int]) -> Sums:
        return Sums(*map(combine, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    """MLX works in the engine process, so that other processes of this machine may load it."""


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """What this rank's machine has, for the engine processes that come after this one."""

    capacity: Capacity


class Paced(msgspec.Struct, frozen=True, tag="paced"):
    """How long passes take, for the engine processes that come after this one."""

    passes: Passes


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The engine process runs; said once a second, from when the group has formed."""

    loaded: bool = False
    """Whether it has: before, it may have to be silent."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """The engine is not ready yet, and this is what it is doing."""

    stage: Literal["meeting", "forming", "downloading", "loading", "warming"]
    detail: str = ""
    rank: int = 0
    """Which rank does it…"""
    note: str = ""
    """…and what that is, without its name; empty: `detail` has no name in it."""


class Introduced(msgspec.Struct, frozen=True, tag="introduced"):
    """The ranks that have met, before anything is loaded; their layers are not known yet."""

    ranks: list[RankFacts]


class ModelFound(msgspec.Struct, frozen=True, tag="model"):
    """The model's small files lie in `folder`: tokenizer and config can be read."""

    folder: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """All ranks have loaded and computed a token."""

    model_type: str
    vocab_size: int
    context_length: int
    backend: str
    layers: int
    batched: bool
    """Whether several sequences run as one batch; some model types cannot."""
    cuttable: bool
    """Whether KV caches can be cut after any token; where not, prefixes are found at borders alone."""
    ranks: list[RankFacts]
    parallel: Parallel = "pipeline"
    """Whether each rank has whole layers, or a share of every layer."""


class Likelihood(msgspec.Struct, frozen=True, array_like=True):
    """A token's natural log-probability as the model gives it, before temperature and penalties; and the likeliest."""

    logprob: float
    top: list[tuple[int, float]] = []
    """Token and log-probability, the likeliest first."""


class NewToken(msgspec.Struct, frozen=True, array_like=True):
    """A generated token. With `finish` "stop" it is the stop token itself, not part of the answer."""

    id: int
    token: int
    finish: FinishReason | None = None
    likelihood: Likelihood | None = None


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """`done` of `total` prompt tokens have been read."""

    id: int
    done: int
    total: int
    cached: int = 0
    """Of those done, the tokens that a stored prefix had; told with a sequence's first reading."""
    began: float = 0.0
    """When this chunk entered the pipeline, by `time.perf_counter`, which all processes of a machine share."""


class PromptLikelihoods(msgspec.Struct, frozen=True, array_like=True):
    """The next tokens of the prompt, in order; its first token has none."""

    id: int
    likelihoods: list[Likelihood]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """This sequence ends without a finish; `message` is for the client."""

    id: int
    message: str


class Step(msgspec.Struct, frozen=True, tag="step"):
    """What one scheduler step brought, all sequences together."""

    tokens: list[NewToken]
    reading: list[Reading]
    prompts: list[PromptLikelihoods] = []
    failed: list[Failed] = []


class Figures(msgspec.Struct, frozen=True, tag="figures"):
    """The ranks as they are now, and what was done; sent about once a second while something changes."""

    ranks: list[RankFacts]
    sums: Sums = msgspec.field(default_factory=Sums)
    kv_share: float = 0.0
    """Of the memory that running sequences may take, what they have; of the rank that has the least left."""


class DrainAsked(msgspec.Struct, frozen=True, tag="drain-asked"):
    """A worker was told that the server is to end as soon as its answers have."""

    reason: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The engine's last word: why it ends and with which exit code."""

    exit_code: int
    message: str


Event = (
    Checked
    | Measured
    | Paced
    | Alive
    | Progress
    | Introduced
    | ModelFound
    | Ready
    | Step
    | Failed
    | Figures
    | DrainAsked
    | Ended
)
