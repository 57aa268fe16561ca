"""What is found of the model: whether each host has it or is given it by the first, and all have the same."""

from __future__ import annotations

from collections.abc import Iterator

from mlxserve.launch.check.finding import Finding, size
from mlxserve.launch.check.messages import Model
from mlxserve.launch.check.visit import Visit


def models(visit: Visit, visits: list[Visit]) -> Iterator[Finding]:
    """What this host has of the model, in comparison with the first host that has any of it."""
    own = visit.facts.model if visit.facts else None
    if own is None:
        return
    if own.kind == "hub":
        yield _of_hub(visit, own, visits)
    elif own.problem or own.missing:
        yield _of_lacking(visit, own, visits)
    else:
        yield _of_disk(visit, own, visits)


def fits(visits: list[Visit]) -> Iterator[Finding]:
    """Whether the memory of all hosts holds the weights."""
    seen = [visit.facts for visit in visits if visit.facts]
    weights = max((facts.model.weight_bytes for facts in seen if facts.model), default=0)
    memory = sum(facts.memory for facts in seen)
    if len(seen) == len(visits) and weights > memory:
        yield Finding(
            "all hosts", "memory", "warning",
            f"the model's weights take {size(weights)}, but all hosts together have {size(memory)}",
            "choose a model of fewer bits or parameters, or add a host",
        )  # fmt: skip


def _of_lacking(visit: Visit, own: Model, visits: list[Visit]) -> Finding:
    """A folder or file that is not there, or not whole."""
    names = ", ".join(own.missing[:3]) + (", …" if len(own.missing) > 3 else "")
    lacking = f"lacks {len(own.missing)} weight file{'s' * (len(own.missing) > 1)}: {names}"
    message = f"{own.place}: {own.problem}" if own.problem else f"{own.place} {lacking}"
    if giver := _giver(visit, visits):
        return Finding(visit.label, "model", "ok", f"{message}; what its rank needs is given by {giver[0].label}")
    return Finding(visit.label, "model", "error", message, _getting_it(visits) if own.problem else "copy them there")


def _of_hub(visit: Visit, own: Model, visits: list[Visit]) -> Finding:
    """A repository, of which each rank downloads what it needs and has not, unless the first has it all."""
    name = visit.question.model
    first = _first(visits)
    message = f"{name}: {size(own.weight_bytes)} of weights here" if own.digest else f"{name}: not here yet"
    giver = _giver(visit, visits)
    if giver and (own.missing or own.digest != giver[1].digest):
        return Finding(visit.label, "model", "ok", f"{message}, what its rank needs is given by {giver[0].label}")
    if own.offline and not own.digest:
        advice = "unset HF_HUB_OFFLINE there, or copy the hub's cache"
        return Finding(visit.label, "model", "error", f"{message}, and HF_HUB_OFFLINE is set", advice)
    if own.digest and first and own.digest != first[1].digest:
        message += f", but its config ({own.digest}) is not that of {first[0].label} ({first[1].digest})"
        advice = "name a revision: --model ORG/NAME@REVISION"
        return Finding(visit.label, "model", "error" if own.offline else "warning", message, advice)
    if own.missing and own.offline:
        advice = "unset HF_HUB_OFFLINE there, unless its rank needs no more"
        return Finding(visit.label, "model", "warning", f"{message}, {len(own.missing)} files missing", advice)
    if own.missing or not own.digest:
        token = "" if own.has_token else "; no token (gated models need `hf auth login`)"
        message += f", what its rank needs will be downloaded{token}"
    return Finding(visit.label, "model", "ok", message)


def _of_disk(visit: Visit, own: Model, visits: list[Visit]) -> Finding:
    """A whole folder or file, which must be the same everywhere."""
    first, other = _first(visits) or (visit, own)
    advice = "copy the same model to all hosts"
    if own.digest != other.digest:
        what = "file" if own.kind == "file" else "config.json"
        message = f"{own.place}: its {what} ({own.digest}) is not that of {first.label} ({other.digest})"
        return Finding(visit.label, "model", "error", message, advice)
    if own.weight_bytes != other.weight_bytes:
        message = f"{own.place} has {own.weight_bytes} bytes of weights, but {other.weight_bytes} on {first.label}"
        return Finding(visit.label, "model", "error", message, advice)
    return Finding(visit.label, "model", "ok", f"{own.place}: {size(own.weight_bytes)} of weights, digest {own.digest}")


def _first(visits: list[Visit]) -> tuple[Visit, Model] | None:
    """The first host that has the model, and what it has of it."""
    has = ((visit, visit.facts.model) for visit in visits if visit.facts and visit.facts.model)
    return next(((visit, model) for visit, model in has if model.digest and not model.problem), None)


def _giver(visit: Visit, visits: list[Visit]) -> tuple[Visit, Model] | None:
    """The host of rank 0, and what it has, where that is another and has the whole model."""
    first = visits[0]
    model = first.facts.model if first.facts and first is not visit else None
    whole = model and model.digest and model.weight_bytes and not (model.problem or model.missing)
    return (first, model) if model and whole else None


def _getting_it(visits: list[Visit]) -> str:
    if first := _first(visits):
        return f"copy it there from {first[0].label}: rank 0 needs it, and gives the others what they need"
    return 'name a folder, a .gguf file, a Hugging Face repository like "mlx-community/Qwen3-1.7B-8bit", or "demo"'
