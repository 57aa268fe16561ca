"""What the command line said: read once, frozen, passed down."""

from __future__ import annotations

from typing import Literal

import msgspec

Backend = Literal["any", "ring", "mpi", "jaccl"]
Fallback = Literal["none", "ring"]
Parallel = Literal["pipeline", "tensor", "auto"]
Dtype = Literal["auto", "stored", "float32", "bfloat16", "float16"]

DEFAULT_MODEL = "mlx-community/Qwen3-1.7B-8bit"


class Capacity(msgspec.Struct, frozen=True):
    """What a rank's machine has for it."""

    memory_bytes: int = 0
    """That weights and caches may take; 0: not known."""
    bytes_per_second: float = 0.0
    """Of weights that it reads while it computes; 0: not measured."""


class Passes(msgspec.Struct, frozen=True):
    """How long the first passes through all ranks took."""

    split: tuple[int, ...] = ()
    """Layers of each rank then; empty: nothing was measured."""
    seconds: tuple[tuple[int, float], ...] = ()
    """Of passes of so many tokens, fewest first."""


class Place(msgspec.Struct, frozen=True):
    """Where this process stands among its peers, as `mlx.launch` or `mlxserve launch` set it."""

    rank: int = 0
    world_size: int = 1
    backend: Backend = "ring"
    addresses: tuple[str, ...] = ()
    """The first `ip:port` of each rank, in rank order, where the backend has such a list."""
    control: str = ""
    """The address of rank 0 for the control links, where that is not the first of its `addresses`."""
    tells_progress: bool = False
    """Whether a launcher draws what this process tells of its progress."""
    ring: tuple[tuple[str, ...], ...] = ()
    """All `ip:port` of each rank, of the ring backend."""
    fallback: tuple[tuple[str, ...], ...] = ()
    """The same of the ring that the ranks may fall back to from another backend; empty: there is none."""
    capacity: Capacity = Capacity()
    """As this node's first engine process has measured it, so that later ones split the model alike."""
    passes: Passes = Passes()
    """As rank 0's last engine process that measured them did: with the same split, later ones need not."""

    @property
    def has_fallen_back(self) -> bool:
        """Whether this is a ring in place of the backend that the launcher has set the variables for."""
        return self.backend == "ring" and bool(self.fallback)


class Settings(msgspec.Struct, frozen=True):
    """All settings of `mlxserve serve`, equal on every rank but for `place`."""

    place: Place = Place()
    task: Literal["serve", "check"] = "serve"
    model: str = DEFAULT_MODEL
    adapter: str = ""
    """The folder of a LoRA or DoRA adapter that is added to the model, on each rank's machine; empty: none."""
    model_names: tuple[str, ...] = ()
    """The names that clients may ask for, the first of which answers carry; empty: one derived from `model`."""
    strict_model: bool = False
    """Whether requests for another name are refused."""
    keep_weights: bool = False
    """Whether a rank that is given its weights by rank 0 keeps them on its disk."""
    dtype: Dtype = "auto"
    split: tuple[int, ...] = ()
    """Layers per rank, first to last; empty: balanced by memory and measured speed."""
    memory_limit: tuple[int, ...] = ()
    """Bytes that weights and caches may take: of every rank, or of each its own; empty: what is free."""
    parallel: Parallel = "pipeline"
    """What a rank has: whole layers, or a share of each; auto: rank 0 chooses."""
    fallback: Fallback = "none"
    """What the ranks go on over where jaccl does not work."""
    host: str = "127.0.0.1"
    port: int = 8100
    api_keys: tuple[str, ...] = ()
    """One of which a request must carry; empty, with no `api_key_file` either: none is needed."""
    api_key_file: str = ""
    """More of them, one a line."""
    cors_origins: tuple[str, ...] = ()
    """The sites whose pages may ask from a browser, beside the server's own; "*": all."""
    allowed_hosts: tuple[str, ...] = ()
    """The names, beside this machine's loopback ones, that requests may call the server by; "*": all."""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    max_tokens: int = 0
    """Default bound on an answer's tokens; 0: as many as the context holds."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    context_length: int = 0
    """Tokens of prompt and answer together; 0: what the model's config says."""
    decode_concurrency: int = 32
    prompt_concurrency: int = 32
    max_queue: int = 256
    """Answers that may wait beyond those generated at once: while so many do, requests are refused.

    Of clients that have none, twice as many may.
    """
    max_connections: int = 2048
    """Connections to the HTTP server at the same time; more are refused."""
    prefill_step_size: int = 0
    """Most tokens of a prompt that are read in one pass; 0: chosen by prompt, ranks and measured times."""
    prefill_share: float = 0.5
    """Of the time, the share that reading prompts may take while answers are being written, 0 to 1."""
    kv_bits: int = 0
    """What keys and values are stored in: 8 or 4 bits where the cache type allows; 0: as computed."""
    kv_cache_bytes: int = 0
    """Bound on the KV caches of running sequences, per rank; 0: a share of the memory that is free after loading."""
    prefix_cache_bytes: int = -1
    """Bound on stored prefixes, per rank; 0: none are stored; -1: a share of the memory that is free after loading."""
    prefix_cache_dir: str = ""
    """Where stored prefixes outlive a restart, on each rank's machine; empty: nowhere."""
    speculation: Literal["auto", "off"] = "auto"
    """Whether tokens found in the text so far are verified several at a time, where measurement shows that it pays."""
    draft_model: str = ""
    """A smaller model of the same vocabulary on rank 0 that proposes tokens."""
    num_draft_tokens: int = 0
    """Most tokens proposed at once; 0: chosen by measurement."""
    form_timeout: float = 45.0
    """Seconds that the group may take to form."""
    min_ranks: int = 0
    """How many ranks are enough to serve while others are missing; 0: all that were planned."""
    recover_seconds: float = 120.0
    """How long open requests wait for a lost group to form again."""
    drain_seconds: float = 30.0
    """How long answers that have begun may go on after SIGTERM."""
    silence_timeout: float = 5.0
    """Seconds without a word from a peer after which it counts as lost."""
    chat_template: str = ""
    trace: str = ""
    """The file into which rank 0 writes what all ranks do, tick by tick; empty: nowhere."""
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    log_prompts: bool = False
    """Whether the end of each prompt is shown to whoever asks which requests there are."""

    @property
    def own_memory_limit(self) -> int:
        """The bytes that weights and caches of this rank may take; 0: what is free."""
        limits = self.memory_limit or (0,)
        return limits[self.place.rank if len(limits) > 1 else 0]
