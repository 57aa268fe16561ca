"""Where a worker takes its part of the model from: its own disk, the hub, or rank 0."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from mlxserve.errors import UserError
from mlxserve.models.folder import ModelSource
from mlxserve.models.hub import HubSource
from mlxserve.models.progress import Report
from mlxserve.models.source import find_on_disk, repository_of
from mlxserve.models.supply.kept import KeptWeights
from mlxserve.models.supply.line import Offer
from mlxserve.models.supply.prints import print_of, prints_of
from mlxserve.models.supply.source import SuppliedSource
from mlxserve.models.supply.taker import Taker

logger = logging.getLogger("mlxserve.engine")


def find_for_worker(model: str, taker: Taker, kept_by: int | None, report: Report) -> ModelSource:
    """What `model` names on this machine, where it is wholly here; else from rank 0, or what that lacks from the hub.

    `kept_by`: the rank that keeps what rank 0 gives; None: nothing is kept. Raises UserError where the model is here,
    but another than rank 0's, and RankLost.
    """
    own = _on_disk(model, report) or _from_hub(model, taker.offer, report)
    if own:
        _require_same(model, own, taker.offer)
        taker.close()
        return own
    report("asking rank 0 for the model")
    kept = KeptWeights(model, taker.offer.identity, kept_by) if kept_by is not None else None
    return SuppliedSource(model, taker, kept, _near(model, taker.offer, report))


def _on_disk(model: str, report: Report) -> ModelSource | None:
    try:
        return find_on_disk(model, report)
    except UserError as error:
        logger.warning("%s Rank 0 is asked for what this rank needs.", error)
        return None


def _from_hub(model: str, offer: Offer, report: Report) -> ModelSource | None:
    """Rank 0's commit of a repository; None where rank 0 is to give it."""
    if not offer.commit:
        return None
    here = _snapshot(model, offer, report)
    if here and here.is_whole:
        return here
    if offer.whole:
        return None
    try:
        return HubSource(repository_of(model)[0], offer.commit, report)
    except UserError as error:
        logger.warning("%s Rank 0 is asked for what this rank needs.", error)
        return None


def _snapshot(model: str, offer: Offer, report: Report) -> HubSource | None:
    """What the hub's cache has of rank 0's commit."""
    try:
        return HubSource(repository_of(model)[0], offer.commit, report, here_only=True)
    except UserError:
        return None


def _near(model: str, offer: Offer, report: Report) -> dict[str, Path]:
    """Weight files that are here, and the same as rank 0's."""
    snapshot = _snapshot(model, offer, report) if offer.commit else None
    folder = snapshot.folder if snapshot else Path(model).expanduser()
    found = {}
    for file, mark in offer.weights.items():
        with suppress(UserError, OSError):
            if mark and print_of(folder / file) == mark:
                found[file] = folder / file
    return found


def _require_same(model: str, own: ModelSource, offer: Offer) -> None:
    for file, mark in prints_of(own).items():
        theirs = offer.weights.get(file)
        if mark and theirs and mark != theirs:
            raise UserError(
                f"{model} is not the same here as on rank 0: {own.folder / file} differs from rank 0's {file}. "
                "Copy the same model to all machines, or remove it here: rank 0 then gives what is needed."
            )
