"""The flags of `mlxserve serve` and the settings they stand for."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec

from mlxserve.config import DEFAULT_MODEL, Backend, Dtype, Fallback, Parallel, Place, Settings
from mlxserve.errors import UserError
from mlxserve.keys import API_KEY_VARIABLE, api_key, keys_from
from mlxserve.place import FALLBACK, place_from

ORIGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#\s]+")
HOST_NAME = re.compile(r"\*|[\w.-]+")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


class Flag(msgspec.Struct, frozen=True):
    """One flag of `serve`: its names, the field of Settings it sets, and how its text is read.

    A flag without a metavar is a switch. One that is `repeated` adds what its text is read as, a tuple, to its field.
    """

    names: tuple[str, ...]
    field: str
    read: Callable[[str], object]
    metavar: str
    help: str
    choices: tuple[str, ...] | None = None
    repeated: bool = False

    @property
    def kind(self) -> dict[str, Any]:
        """What argparse must know of its values."""
        if not self.metavar:
            return {"action": "store_true"}
        action = {"action": Several} if self.repeated else {}
        return {"type": self.read, "choices": self.choices, "metavar": self.metavar, **action}


class Several(argparse.Action):
    """Adds a flag's values to those given before."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """See argparse.Action."""
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), *values))


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""
    wanted = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
        return value

    return read


def choice(*values: int) -> Callable[[str], int]:
    """A reader of one of a few whole numbers."""
    wanted = f"{', '.join(map(str, values[:-1]))} or {values[-1]}"

    def read(text: str) -> int:
        if text not in map(str, values):
            raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
        return int(text)

    return read


def size(text: str) -> int:
    """Read a number of bytes such as 500000, 512MB, 1.5GB or 4GiB."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a number of bytes such as 512MB or 1.5GB, not {text!r}")
    prefix, binary = found[2].upper(), 1024 if found[3] else 1000
    return int(float(found[1]) * binary ** "_KMGT".index(prefix or "_"))


def number(low: float, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A reader of finite numbers from `low` (with `above`: from just above it) to `high`."""
    wanted = f"above {low:g}" if above else f"{low:g} or more"
    wanted = wanted if high == math.inf else f"{wanted} and at most {high:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        fits = math.isfinite(value) and value <= high and (value > low if above else value >= low)
        if not fits:
            raise argparse.ArgumentTypeError(f"must be a number {wanted}, not {text!r}")
        return value

    return read


def sizes(text: str) -> tuple[int, ...]:
    """Read numbers of bytes between commas, each above 0."""
    values = tuple(size(part) for part in text.split(","))
    if not all(values):
        raise argparse.ArgumentTypeError(f"must be numbers of bytes above 0 such as 12GB or 8GB,24GB, not {text!r}")
    return values


def layer_counts(text: str) -> tuple[int, ...]:
    """Read `14,14`: how many layers each rank runs."""
    counts = text.split(",")
    if not all(count.strip().isdecimal() and int(count) > 0 for count in counts):
        raise argparse.ArgumentTypeError(f"must be layers per rank such as 14,14, each 1 or more, not {text!r}")
    return tuple(int(count) for count in counts)


def text(value: str) -> str:
    """Read a text that must not be empty."""
    if not value.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def listed(read: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """A reader of values between commas, each of which `read` reads."""
    return lambda values: tuple(read(value.strip()) for value in values.split(","))


def origin(value: str) -> str:
    """Read a site as browsers name it in the header Origin."""
    if value not in ("*", "null") and not ORIGIN.fullmatch(value):
        raise argparse.ArgumentTypeError(
            f"must be an origin such as https://example.com or http://localhost:3000, without a path, not {value!r}"
        )
    return value.lower()


def host_name(value: str) -> str:
    """Read a name that a host is called by."""
    if not HOST_NAME.fullmatch(value):
        raise argparse.ArgumentTypeError(f"must be a name such as mini.example.com, without a port, not {value!r}")
    return value.lower()


MODEL = Flag(("--model",), "model", text, "MODEL", "a Hugging Face id, an MLX folder, a .gguf file, or `demo`")
BACKEND = Flag(
    ("--backend",), "backend", str, "BACKEND", "how the ranks reach each other; any: as the launcher says",
    get_args(Backend),
)  # fmt: skip
FLAGS = (
    MODEL,
    Flag(
        ("--adapter",), "adapter", text, "FOLDER",
        "add the LoRA or DoRA adapter in this folder, as mlx_lm.lora writes it, to the model",
    ),
    Flag(("--host",), "host", text, "ADDRESS", "the address that rank 0 serves on; 0.0.0.0: all of this machine's"),
    Flag(("--port",), "port", whole(0, 65535), "PORT", "the port that rank 0 serves on; 0: any free one"),
    Flag(
        ("--model-name", "--served-model-name", "--alias"), "model_names", listed(text), "NAME,NAME",
        "the names of the model for clients, who see the first; by default derived from --model", repeated=True,
    ),
    Flag(("--strict-model",), "strict_model", bool, "", "refuse requests that ask for a model of another name"),
    Flag(
        ("--api-key",), "api_keys", listed(api_key), "KEY,KEY",
        f"keys of which requests must carry one, added to those in the variable {API_KEY_VARIABLE}", repeated=True,
    ),
    Flag(("--api-key-file",), "api_key_file", text, "FILE", "a file with more such keys, one a line"),
    Flag(
        ("--cors-origin",), "cors_origins", listed(origin), "ORIGIN,ORIGIN",
        "sites whose pages may ask from a browser, such as https://example.com; *: all", repeated=True,
    ),
    Flag(
        ("--allowed-host",), "allowed_hosts", listed(host_name), "NAME,NAME",
        "more names that requests may call the server by, behind a proxy for instance; *: any", repeated=True,
    ),
    Flag(("--ssl-certfile",), "ssl_certfile", text, "FILE", "serve HTTPS with this certificate (PEM)"),
    Flag(("--ssl-keyfile",), "ssl_keyfile", text, "FILE", "its private key, where the certificate's file has none"),
    Flag(
        ("--keep-weights",), "keep_weights", bool, "",
        "ranks that have not the model keep what rank 0 gives them of it, in their cache folder",
    ),
    Flag(("--dtype",), "dtype", str, "TYPE", "what the weights are computed in", get_args(Dtype)),
    Flag(("--split",), "split", layer_counts, "N,N", "layers per rank, rank 0 first; by default as is fastest"),
    Flag(
        ("--memory-limit",), "memory_limit", sizes, "SIZE,SIZE",
        "memory for weights and caches, of every rank or one SIZE a rank; by default what is free",
    ),
    Flag(
        ("--parallel",), "parallel", str, "MODE",
        "give each rank whole layers, or a share of every layer; auto: what is measured to be faster",
        get_args(Parallel),
    ),
    BACKEND,
    Flag(
        ("--fallback",), "fallback", str, "BACKEND",
        "what the ranks go on over, with a warning, where jaccl does not work", get_args(Fallback),
    ),
    Flag(("--max-tokens",), "max_tokens", whole(0), "N", "bound on an answer's tokens unless requests say; 0: none"),
    Flag(("--temp",), "temperature", number(0), "T", "temperature where a request names none; 0: the likeliest token"),
    Flag(("--top-p",), "top_p", number(0, 1, above=True), "P", "nucleus sampling where a request names none; 1: off"),
    Flag(("--top-k",), "top_k", whole(0), "K", "sample among the K likeliest where a request names none; 0: off"),
    Flag(("--min-p",), "min_p", number(0, 1), "P", "drop tokens under P times the likeliest's probability; 0: off"),
    Flag(("--ctx-size",), "context_length", whole(0), "N", "tokens of prompt and answer together; 0: the model's"),
    Flag(("--decode-concurrency",), "decode_concurrency", whole(1), "N", "answers generated at the same time"),
    Flag(("--prompt-concurrency",), "prompt_concurrency", whole(1), "N", "prompts read at the same time"),
    Flag(
        ("--max-queue",), "max_queue", whole(0), "N",
        "answers that may wait beyond those generated at once; more are refused (429)",
    ),
    Flag(("--max-connections",), "max_connections", whole(1, 10_000), "N", "connections at a time; more get 503"),
    Flag(("--prefill-step-size",), "prefill_step_size", whole(0), "N", "most tokens read in one step; 0: as measured"),
    Flag(
        ("--prefill-share",), "prefill_share", number(0, 0.95, above=True), "SHARE",
        "of the time that reading prompts may take while answers are written",
    ),
    Flag(("--kv-bits",), "kv_bits", choice(0, 4, 8), "BITS", "bits of stored keys and values: 8, 4; 0: as computed"),
    Flag(
        ("--kv-cache-bytes",), "kv_cache_bytes", size, "SIZE",
        "bound on running KV caches, per rank: 4GB; 0: by free memory",
    ),
    Flag(
        ("--prefix-cache-bytes",), "prefix_cache_bytes", size, "SIZE",
        "bound on stored prefixes, per rank; 0: store none; by default by free memory",
    ),
    Flag(
        ("--prefix-cache-dir",), "prefix_cache_dir", text, "FOLDER",
        "where each rank keeps prefixes over restarts; by default nowhere",
    ),
    Flag(
        ("--speculation",), "speculation", str, "MODE",
        "verify several guessed tokens at once where that is measured to pay", ("auto", "off"),
    ),
    Flag(("--draft-model",), "draft_model", text, "MODEL", "a small model with equal vocabulary, on rank 0, to guess"),
    Flag(("--num-draft-tokens",), "num_draft_tokens", whole(0, 64), "N", "most tokens guessed at once; 0: as measured"),
    Flag(("--chat-template",), "chat_template", text, "TEMPLATE", "a Jinja chat template in place of the model's own"),
    Flag(
        ("--form-timeout",), "form_timeout", number(0, above=True), "SECONDS",
        "how long the ranks may take to find each other",
    ),
    Flag(
        ("--min-ranks",), "min_ranks", whole(0), "N",
        "how many ranks are enough to serve while others are missing; 0: all that were planned",
    ),
    Flag(
        ("--recover-seconds",), "recover_seconds", number(0), "SECONDS",
        "how long open requests wait for a lost group to form again",
    ),
    Flag(
        ("--drain-seconds",), "drain_seconds", number(0), "SECONDS",
        "how long answers that have begun may go on after SIGTERM; a second one ends at once",
    ),
    Flag(
        ("--silence-timeout",), "silence_timeout", number(0, above=True), "SECONDS",
        "silence of a rank after which it counts as lost",
    ),
    Flag(
        ("--trace",), "trace", text, "FILE",
        "write what all ranks do, tick by tick, into FILE on rank 0's machine, for Perfetto",
    ),
    Flag(("--log-level",), "log_level", str, "LEVEL", "how much is logged", LOG_LEVELS),
    Flag(("--log-format",), "log_format", str, "FORMAT", "how it is written, json: an object a line", LOG_FORMATS),
    Flag(("--log-prompts",), "log_prompts", bool, "", "show the end of each prompt in /requests"),
)  # fmt: skip

DEFAULTS: Mapping[str, Any] = {
    "backend": "any",
    **{f.name: f.default for f in msgspec.structs.fields(Settings) if f.name not in ("place", "task")},
}


def add_flags(parser: argparse.ArgumentParser, flags: tuple[Flag, ...] = FLAGS, model: str = DEFAULT_MODEL) -> None:
    """Give `parser` the flags of `serve`; `model` is the model served when none is named."""
    group = parser.add_argument_group("serving")
    for flag in flags:
        default = model if flag is MODEL else DEFAULTS[flag.field]
        shown = "" if default in ("", (), -1) or default is False else f" (default: {default})"
        choices = f": {', '.join(flag.choices)}" if flag.choices else ""
        group.add_argument(
            *flag.names,
            **flag.kind,
            dest=flag.field,
            default=None if default == "" else default,
            help=f"{flag.help}{choices}{shown}",
        )


def settings_from(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings of the rank that this process is, its place read from what the launcher set. Raises UserError."""
    place = place_from(environ, args.backend)
    settings = settings_at(args, place)
    if settings.fallback == "ring" and place.world_size > 1 and place.backend != "ring" and not place.fallback:
        raise UserError(
            f"--fallback ring: the ranks were started for {place.backend}, and {FALLBACK} names no ring: start them "
            "with `mlxserve launch` and a hosts file for jaccl, or leave the flag out"
        )
    return msgspec.structs.replace(settings, api_keys=(*settings.api_keys, *keys_from(environ)))


def settings_at(args: argparse.Namespace, place: Place) -> Settings:
    """The settings of the rank at `place`. Raises UserError where the flags do not fit the number of ranks."""
    given = {flag.field: getattr(args, flag.field) for flag in FLAGS if flag is not BACKEND}
    values: dict[str, Any] = {field: "" if value is None else value for field, value in given.items()}
    settings = Settings(place=place, task="check" if args.command == "check" else "serve", **values)
    ranks = len(settings.split)
    if ranks not in (0, place.world_size):
        raise UserError(
            f"--split names layers for {_count(ranks)}, but there {'is' if place.world_size == 1 else 'are'} "
            f"{place.world_size}: name one number a rank"
        )
    limits = len(settings.memory_limit)
    if limits not in (0, 1, place.world_size):
        raise UserError(
            f"--memory-limit names sizes for {_count(limits)}, but there {'is' if place.world_size == 1 else 'are'} "
            f"{place.world_size}: name one size for all, or one a rank"
        )
    if settings.split and settings.parallel == "tensor":
        raise UserError("--split gives each rank whole layers, --parallel tensor a share of every layer: choose one")
    if settings.adapter and settings.parallel == "tensor":
        raise UserError("--adapter is cut by whole layers alone: take --parallel pipeline, or merge it into the model")
    if settings.parallel == "tensor" and 0 < settings.min_ranks < place.world_size:
        raise UserError(
            f"--min-ranks {settings.min_ranks} with --parallel tensor: heads may not be divisible by fewer ranks; "
            "take --parallel auto, which then gives them whole layers"
        )
    if settings.min_ranks > place.world_size:
        raise UserError(f"--min-ranks {settings.min_ranks} are more than there are: {_count(place.world_size)}")
    return settings


def _count(ranks: int) -> str:
    return f"{ranks} rank{'' if ranks == 1 else 's'}"
