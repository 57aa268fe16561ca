"""The engine process: the only one that touches MLX and the group of ranks.

Its main thread does all of MLX. Other threads read the pipe and the links, and end the process when the node or a peer
is gone: a hung collective cannot be cancelled in any other way.
"""

from __future__ import annotations

import logging
import signal
import time
from typing import NoReturn

import msgspec

from mlxserve import logs
from mlxserve.bundle import build_id
from mlxserve.config import Capacity, Settings
from mlxserve.engine.channel import EngineChannel
from mlxserve.engine.lean import leave_out_tokenizers
from mlxserve.engine.messages import Checked, Measured, Progress
from mlxserve.engine.selfcheck import check_device
from mlxserve.errors import BrokenBuild, MlxserveError, RankLost

logger = logging.getLogger("mlxserve.engine")

_ORPHAN_SECONDS = 10.0
"""MLX lets no other thread run while a group forms, so an engine whose node dies then ends by an alarm, so much later
than a living node would end it."""
_LEAVING_SECONDS = 0.3
"""What a rank that sees others go waits for the word that all are to go."""
_CACHE_LIMIT_BYTES = 1 << 30
"""What MLX may keep of freed buffers for reuse."""


def main(arguments: list[str]) -> NoReturn:
    """Run as the child of a node, which passes the number of the pipe's file descriptor, and its build."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the node decides when the engine ends
    channel = EngineChannel(int(arguments[0]))
    settings = channel.receive_settings()
    channel.start()
    logs.set_up(settings)
    try:
        check_build(arguments[1])
        check_device()
        channel.send(Checked())
        _run(settings, channel)
    except MlxserveError as error:
        channel.end(error.exit_code, str(error))
    except Exception as error:
        if "[ring]" in str(error):
            time.sleep(_LEAVING_SECONDS)
            channel.end(RankLost.exit_code, f"a rank is lost: {error}")
        logger.exception("the engine failed")
        channel.end(1, f"the engine failed: {type(error).__name__}: {error}")


def check_build(expected: str) -> None:
    """Raise BrokenBuild where the node, which was started earlier, is another build than this."""
    if build_id() != expected:
        raise BrokenBuild(f"mlxserve was replaced while it ran (build {expected} by {build_id()}): start it again.")


def with_capacity(settings: Settings, channel: EngineChannel) -> Settings:
    """Measure what this rank has, unless an earlier process did or there is nothing to split."""
    from mlxserve.pipeline.capacity import measure_capacity

    if settings.place.world_size == 1 or settings.place.capacity != Capacity():
        return settings
    capacity = measure_capacity(settings)
    channel.send(Measured(capacity))
    return msgspec.structs.replace(settings, place=msgspec.structs.replace(settings.place, capacity=capacity))


def _run(settings: Settings, channel: EngineChannel) -> NoReturn:
    import mlx.core as mx  # not before it is known to work

    leave_out_tokenizers()
    from mlxserve.engine.follow import follow
    from mlxserve.engine.kernels import compile_for_this_processor
    from mlxserve.engine.lead import lead
    from mlxserve.pipeline.composed import compose
    from mlxserve.pipeline.group import form_group
    from mlxserve.pipeline.meeting import meet

    compose(compile_for_this_processor())
    mx.set_cache_limit(_CACHE_LIMIT_BYTES)
    settings = with_capacity(settings, channel)
    place = settings.place
    if not settings.min_ranks:  # else the nodes have met already
        meet(place, settings.form_timeout, lambda waiting: channel.send(Progress("meeting", waiting)))
    if place.world_size > 1:
        channel.send(Progress("forming", f"rank {place.rank} of {place.world_size} joins the others"))
    signal.setitimer(signal.ITIMER_REAL, settings.form_timeout + _ORPHAN_SECONDS)
    group = form_group(place)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if group is None or place.rank == 0:
        lead(settings, channel, group)
    follow(settings, channel, group)
