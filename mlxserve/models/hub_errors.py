"""What the hub or the way to it did wrong, in a sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

from mlxserve.errors import UserError


@contextmanager
def explained(model: str) -> Iterator[None]:
    """Turns what huggingface_hub raises about `model` into UserErrors."""
    try:
        yield
    except (HTTPError, HFValidationError, SafetensorsParsingError, OSError) as error:
        raise UserError(_sentence(model, error)) from error


def _sentence(model: str, error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    if isinstance(cause, HFValidationError):
        return f"{model!r} is no name of a Hugging Face repository: it must look like org/name."
    if isinstance(cause, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return f"{model} is not wholly in the cache, and HF_HUB_OFFLINE is set: unset it, or name a local folder."
    if isinstance(cause, HfHubHTTPError):
        return _answered(model, cause)
    if isinstance(cause, SafetensorsParsingError):
        return f"{model} has a damaged weight file on the hub ({cause}): choose another model."
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: make room in {constants.HF_HUB_CACHE} for {model}, or set HF_HOME to another disk."
    if isinstance(cause, PermissionError):
        return f"{model} cannot be stored: {cause}; mend the permissions, or set HF_HOME to another folder."
    return f"{constants.ENDPOINT} does not answer, and {model} is not wholly in the cache: check the network ({cause})."


def _answered(model: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"{model} is gated: accept its terms on {constants.ENDPOINT}, then run `hf auth login` on this machine."
    if isinstance(error, RevisionNotFoundError):
        return f"{model} has no such revision on {constants.ENDPOINT}: check what follows the @."
    if isinstance(error, RepositoryNotFoundError) and status in (401, 404):
        return (
            f"{model} is neither a file or folder here nor a repository on {constants.ENDPOINT}: check the name; "
            "if it is private, run `hf auth login`."
        )
    if status in (401, 403):
        return f"{constants.ENDPOINT} refuses {model} ({status}): run `hf auth login` with a token that may read it."
    return f"{constants.ENDPOINT} answers {status} for {model}: try again later."
