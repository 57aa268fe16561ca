"""API keys as users give them: in a flag, in the environment, in a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from mlxserve.config import Settings
from mlxserve.errors import UserError

API_KEY_VARIABLE = "MLXSERVE_API_KEY"


def api_key(value: str) -> str:
    """Read a key from a flag. No error repeats it."""
    if not _can_be_sent(value):
        raise argparse.ArgumentTypeError("must be a key of printable ASCII characters without spaces, and not empty")
    return value


def keys_from(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The keys, between commas, that the environment holds. Raises UserError."""
    if API_KEY_VARIABLE not in environ:
        return ()
    keys = tuple(key.strip() for key in environ[API_KEY_VARIABLE].split(","))
    if not all(_can_be_sent(key) for key in keys):
        raise UserError(
            f"{API_KEY_VARIABLE} is set, but is not one or more keys of printable ASCII characters with commas "
            "between them: set a key, or unset it"
        )
    return keys


def first_key(environ: Mapping[str, str]) -> str:
    """The key that a client is to send: the first one that the environment holds, or none. Raises UserError."""
    return next(iter(keys_from(environ)), "")


def keys_of(settings: Settings) -> tuple[str, ...]:
    """All keys that `settings` name. Raises UserError."""
    return (*settings.api_keys, *(keys_in(settings.api_key_file) if settings.api_key_file else ()))


def keys_in(file: str) -> tuple[str, ...]:
    """The keys in `file`, one a line; lines that begin with # are comments. Raises UserError."""
    try:
        lines = [line.strip() for line in Path(file).expanduser().read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--api-key-file {file} cannot be read: {reason}") from error
    keys = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
    for number, key in keys.items():
        if not _can_be_sent(key):
            raise UserError(
                f"--api-key-file {file}: line {number} is no key: write one of printable ASCII characters "
                "without spaces on each line"
            )
    if not keys:
        raise UserError(f"--api-key-file {file} holds no key: write one on each line")
    return tuple(keys.values())


def _can_be_sent(key: str) -> bool:
    """Whether `key` can stand in a header of HTTP."""
    return bool(key) and all("!" <= character <= "~" for character in key)
