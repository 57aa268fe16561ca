"""A node's engine process: kept alive, one after the other, each as this node's rank of the next group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from mlxserve.bars import Display
from mlxserve.config import Place, Settings
from mlxserve.engine.child import EngineChild
from mlxserve.engine.client import EngineClient
from mlxserve.engine.messages import AskToDrain, DrainAsked, Ended, Event, Measured, Paced, Progress, Ready, Shutdown
from mlxserve.errors import BrokenBuild, CheckFailed, DamagedData, FormationError, MlxserveError, RankLost, UserError
from mlxserve.front import Front
from mlxserve.pipeline.addresses import unreachable
from mlxserve.pipeline.meeting import meeting_point, not_formed
from mlxserve.place import over_ring
from mlxserve.rendezvous.formation import Formation, named
from mlxserve.rendezvous.rendezvous import Rendezvous, Whole

logger = logging.getLogger("mlxserve.node")

STOP_SECONDS = 2.5
_FIRST_RESTART_SECONDS = 0.5
_LONGEST_RESTART_SECONDS = 10.0
_PROVEN_SECONDS = 60.0
"""An engine that ran for so long counts as having worked."""
_JOINING_SECONDS = 6.0
"""Ranks that have formed a group before, and have met, need no longer to form it again."""
_MOST_FAILURES = 3
"""Engines that may fail one after the other, not for a lost rank, before the node gives up."""


class EngineKeeper:
    """Starts engine processes until there is a reason to stop, and tells the client what they say."""

    def __init__(
        self,
        settings: Settings,
        client: EngineClient,
        rendezvous: Rendezvous,
        ending: asyncio.Event,
        drain: Callable[[str], None],
        front: Front | None,
        display: Display,
    ) -> None:
        """`ending` is set when the node is to end; `drain` is called when a worker was asked to end."""
        self._display = display
        self._settings = settings
        self._client = client
        self._rendezvous = rendezvous
        self._ending = ending
        self._drain = drain
        self._front = front
        self._has_formed = False
        self._forming = False
        self._has_loaded = False
        self._patient_until = 0.0
        """By the monotonic clock: until then ranks that have not fallen back to the ring yet may still do so."""
        self._waiting = ""
        """What was logged last of the ranks that wait for each other."""
        self._child: EngineChild | None = None

    async def run(self) -> int:
        """Returns the exit code when there is a reason to stop. Raises MlxserveError."""
        try:
            code = await self._keep_one_after_the_other()
        except MlxserveError as error:
            self._client.close(str(error))
            raise
        self._client.close("the server is shutting down")
        return code

    def ask_to_drain(self) -> bool:
        """Let rank 0 know, from a worker, that the server is to end when it may; False where no group has formed."""
        if self._child is None or not self._has_formed or self._forming:
            return False
        self._child.send(AskToDrain())
        return True

    async def _keep_one_after_the_other(self) -> int:
        pause, failures = _FIRST_RESTART_SECONDS, 0
        while formation := await self._next_formation():
            started = time.monotonic()
            ended = await self._run_engine(formation)
            if self._ending.is_set() or ended.exit_code == 0:
                return 0
            self._client.lost(ended.message)
            refused = ended.exit_code == UserError.exit_code
            self._rendezvous.over(formation, ended.message, final=refused)
            if self._falls_back_after(ended):
                self._fall_back(ended.message)
                continue
            self._raise_if_last(ended, formation)
            lasted = time.monotonic() - started
            if lasted > _PROVEN_SECONDS:
                pause, failures = _FIRST_RESTART_SECONDS, 0
            if self._has_loaded or lasted > _LONGEST_RESTART_SECONDS or ended.exit_code == RankLost.exit_code:
                pause = _FIRST_RESTART_SECONDS  # this rank worked or waited: the others need not wait for it
            failures += ended.exit_code in (MlxserveError.exit_code, DamagedData.exit_code)
            if failures == _MOST_FAILURES:
                raise MlxserveError(f"the engine failed {failures} times in a row: {ended.message}")
            logger.warning("%s; starting a new engine in %.1f s", ended.message, pause)
            if await _is_set_within(self._ending, pause):
                return 0
            pause = min(2 * pause, _LONGEST_RESTART_SECONDS)
        return 0

    def _falls_back_after(self, ended: Ended) -> bool:
        """Whether an engine that ended like this has shown that jaccl does not work, and there is a ring instead."""
        failed = ended.exit_code in (FormationError.exit_code, DamagedData.exit_code)
        return failed and self._settings.fallback == "ring" and self._settings.place.backend == "jaccl"

    def _fall_back(self, reason: str) -> None:
        """From now on start engines for the ring. The other ranks come over when jaccl has failed for them, too."""
        logger.warning("%s; going on over the ring, which is slower, until the next start", reason.rstrip("."))
        place = over_ring(self._settings.place)
        self._settings = msgspec.structs.replace(self._settings, place=place)
        self._rendezvous = Whole(self._settings)
        self._patient_until = time.monotonic() + 2 * self._settings.form_timeout

    def _raise_if_last(self, ended: Ended, formation: Formation) -> None:
        """Raise MlxserveError where no other engine is to follow one that has ended like this."""
        has_not_formed = ended.exit_code == FormationError.exit_code
        if ended.exit_code == UserError.exit_code and formation.is_whole:
            raise UserError(ended.message)
        if ended.exit_code == BrokenBuild.exit_code:
            raise BrokenBuild(ended.message)
        if has_not_formed and time.monotonic() < self._patient_until:
            return
        if self._settings.task == "check":
            raise CheckFailed(ended.message)
        if has_not_formed and not self._has_formed:
            raise FormationError(ended.message)

    async def _next_formation(self) -> Formation | None:
        """The group that the next engine process is to join, waited for; None where this node ends before."""
        coming = asyncio.create_task(self._rendezvous.next(self._client.tell))
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait([coming, ending], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not coming.done():
            coming.cancel()
            return None
        return coming.result()

    async def _run_engine(self, formation: Formation) -> Ended:
        """Run one engine process to its end."""
        self._has_loaded = False
        try:
            child = await EngineChild.start(self._settings, formation)
        except OSError as error:
            return Ended(MlxserveError.exit_code, f"no engine process can be started: {error}")
        self._child = child
        missing = named(formation.planned, formation.missing)
        self._client.connected(child.send, formation.members, missing)
        following = asyncio.create_task(self._follow(child, formation))
        ending = asyncio.create_task(self._ending.wait())
        leaving = asyncio.create_task(self._rendezvous.left(formation))
        await asyncio.wait([following, ending, leaving], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        leaving.cancel()
        reason = leaving.result() if leaving.done() and not following.done() else ""
        if not following.done():
            if self._ending.is_set():
                self._client.close("the server is shutting down")
            order = Shutdown(reason, RankLost.exit_code) if reason else None
            # MLX lets no thread run while a group forms
            await child.stop(0 if self._forming else STOP_SECONDS, order)
        self._child = None
        ended = await child.outcome(await following)
        return Ended(RankLost.exit_code, reason) if reason else ended

    async def _follow(self, child: EngineChild, formation: Formation) -> Ended | None:
        """Pass the engine's events on until it ends. Returns its last word, or what the node says in its place."""
        giving_up: asyncio.Task[Ended] | None = None
        try:
            while event := await child.receive():
                if isinstance(event, Ended):
                    return event
                self._forming = isinstance(event, Progress) and event.stage == "forming"
                if self._forming:
                    giving_up = asyncio.create_task(self._give_up_forming(child, formation.place))
                elif giving_up:
                    giving_up.cancel()
                    self._has_formed = True
                self._has_loaded |= isinstance(event, Progress) and event.stage == "warming"
                self._remember(event)
                if isinstance(event, DrainAsked):
                    self._drain(event.reason)
                if isinstance(event, Ready):
                    self._rendezvous.serves(formation)
                self._log(event)
                self._client.receive(event)
            return giving_up.result() if giving_up and giving_up.done() and not giving_up.cancelled() else None
        finally:
            self._display.clear()
            self._forming = False
            if giving_up:
                giving_up.cancel()

    async def _give_up_forming(self, child: EngineChild, place: Place) -> Ended:
        """Wait; then the group has not formed in time: end the engine, which may wait for ever. Returns the reason."""
        seconds = self._settings.form_timeout
        if self._has_formed and meeting_point(place):
            seconds = min(seconds, _JOINING_SECONDS)
        await asyncio.sleep(seconds)
        missing = await asyncio.to_thread(unreachable, place)
        child.kill()
        return Ended(FormationError.exit_code, not_formed(place, seconds, missing))

    def _remember(self, event: Event) -> None:
        """What later engine processes need not measure again."""
        match event:
            case Measured():
                place = msgspec.structs.replace(self._settings.place, capacity=event.capacity)
            case Paced():
                place = msgspec.structs.replace(self._settings.place, passes=event.passes)
            case _:
                return
        self._settings = msgspec.structs.replace(self._settings, place=place)

    def _log(self, event: Event) -> None:
        match event:
            case Progress(stage="meeting" | "forming"):
                if event.detail != self._waiting:
                    logger.info("%s", event.detail)
                self._waiting = event.detail
            case Progress():
                if not self._display.show(f"rank {event.rank}", event.note or _sentence(event)):
                    logger.info("%s", _sentence(event))
            case Ready():
                self._display.clear()
                ranks = "1 rank" if len(event.ranks) == 1 else f"{len(event.ranks)} ranks"
                logger.info("ready: %s, %d layers on %s", event.model_type, event.layers, ranks)
                if waiting := len(self._client.clients):
                    answers = "1 open answer goes" if waiting == 1 else f"{waiting} open answers go"
                    logger.info("%s on where the last engine stopped", answers)
                if self._front:
                    logger.info("serving at %s", self._front.url)


def _sentence(progress: Progress) -> str:
    """What is being done, with the name of the rank that does it where that is another."""
    if progress.note or progress.stage == "warming":
        return progress.detail
    return f"{progress.stage} {progress.detail}"


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
