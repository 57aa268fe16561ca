"""GET /slots: what is being answered now, as llama-server shows it. Nobody's text is in it."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.serving import Serving, serving_of
from mlxserve.engine.messages import Sampling
from mlxserve.text.generation import Generation


class SlotParams(msgspec.Struct):
    """How a slot's answer is drawn. `n_predict` is its bound in tokens, -1 for none."""

    n_predict: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repeat_penalty: float
    seed: int
    stop: list[str]


class NextToken(msgspec.Struct):
    """How far the answer is."""

    has_next_token: bool
    n_remain: int
    n_decoded: int


class Slot(msgspec.Struct, omit_defaults=True):
    """A place for one sequence; without `params` it is free."""

    id: int
    is_processing: bool
    n_ctx: int
    id_task: int = -1
    params: SlotParams | None = None
    prompt_tokens: int = -1
    prompt_tokens_read: int = -1
    prompt_tokens_cached: int = -1
    """Of those read, the ones that were in the cache."""
    next_token: NextToken | None = None


async def slots(http: Request) -> Response:
    """One entry for each sequence that can run at once. Those that wait beyond them are left out."""
    serving = serving_of(http)
    _, ready = serving.require_ready()
    taken = _seated(serving)
    listed = [
        _taken(slot, taken[slot], serving.generations[taken[slot]], ready.context_length)
        if slot in taken
        else Slot(slot, False, ready.context_length)
        for slot in range(serving.settings.decode_concurrency)
    ]
    return Response(msgspec.json.encode(listed), headers={"Cache-Control": "no-store"}, media_type="application/json")


def params_of(sampling: Sampling, max_tokens: int, stop: list[str]) -> SlotParams:
    """In llama-server's words."""
    return SlotParams(
        n_predict=max_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repeat_penalty=sampling.repetition_penalty,
        seed=sampling.seed,
        stop=stop,
    )


def _seated(serving: Serving) -> dict[int, int]:
    """The numbers of the generations under way by their slots. Each keeps the slot in which it was seen first."""
    under_way = [number for number, generation in serving.generations.items() if generation.open]
    seated = {slot: number for slot, number in serving.slots.items() if number in under_way}
    free = [slot for slot in range(serving.settings.decode_concurrency) if slot not in seated]
    unseated = [number for number in under_way if number not in seated.values()]
    serving.slots = seated | dict(zip(free, unseated, strict=False))
    return serving.slots


def _taken(slot: int, number: int, generation: Generation, context_length: int) -> Slot:
    task, sampling = generation.task, generation.sampling
    done = generation.completion_tokens
    return Slot(
        id=slot,
        is_processing=True,
        n_ctx=context_length,
        id_task=number,
        params=params_of(sampling, task.max_tokens, task.stop),
        prompt_tokens=len(generation.prompt),
        prompt_tokens_read=generation.prompt_tokens_read,
        prompt_tokens_cached=generation.cached_tokens,
        next_token=NextToken(True, task.max_tokens - done, done),
    )
