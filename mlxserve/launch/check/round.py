"""The round of all hosts at the same time: facts first, then who reaches whom while all probes listen."""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from mlxserve.config import Settings
from mlxserve.launch.check.conversation import Conversation
from mlxserve.launch.check.facts import facts
from mlxserve.launch.check.messages import Facts, Question
from mlxserve.launch.check.visit import Target, Trouble, Visit
from mlxserve.launch.command import anywhere, folder, is_here
from mlxserve.launch.hostfile import THIS_MACHINE, Host, Hostfile
from mlxserve.launch.ranks import labels_of, ring_addresses
from mlxserve.launch.request import DEFAULT_PORT, LaunchRequest

FACTS_SECONDS = 60.0
"""ssh's own patience, and the first start of the binary, which unpacks itself and is scanned by macOS."""
REACH_SECONDS = 15.0


def this_machine(settings: Settings) -> Visit:
    """A look at this machine alone."""
    question = Question(model=settings.model)
    return Visit("this machine", Host(THIS_MACHINE), question, is_here=True, facts=facts(question))


async def visit_all(hosts: Hostfile, request: LaunchRequest, settings: Settings, program: list[str]) -> list[Visit]:
    """Visit all hosts; in their order. Nothing of it still runs afterwards."""
    questions = questions_for(hosts, request, settings)
    visits = [
        Visit(label, host, question, is_here(host), " ".join([anywhere(program[0]), *program[1:]]))
        for label, host, question in zip(labels_of(hosts.hosts), hosts.hosts, questions, strict=True)
    ]
    conversations = [Conversation(visit.host, program, folder()) for visit in visits]
    try:
        visits = await asyncio.gather(*map(_look, conversations, visits))
        visits = [
            msgspec.structs.replace(visit, targets=targets_of(rank, visits, hosts.backend))
            for rank, visit in enumerate(visits)
        ]
        return await asyncio.gather(*map(_reach, conversations, visits))
    finally:
        await asyncio.gather(*(conversation.end() for conversation in conversations))


def questions_for(hosts: Hostfile, request: LaunchRequest, settings: Settings) -> list[Question]:
    """What each host is asked, in rank order."""
    port = request.starting_port or DEFAULT_PORT
    listen: list[list[str]] = [[] for _ in hosts.hosts]
    many = len(hosts.hosts) > 1
    if hosts.backend == "ring" and many:
        listen = ring_addresses(hosts.hosts, port, request.connections_per_ip)
    elif hosts.backend.startswith("jaccl"):
        listen[0] = [f"{hosts.hosts[0].ips[0]}:{port}"]
    questions = [
        Question(
            addresses=host.ips,
            listen=tuple(addresses),
            model=settings.model,
            rdma=hosts.backend.startswith("jaccl"),
        )
        for host, addresses in zip(hosts.hosts, listen, strict=True)
    ]
    questions[0] = msgspec.structs.replace(
        questions[0],
        control=hosts.hosts[0].ips[0] if many and hosts.backend != "mpi" else "",
        serve=f"{settings.host}:{settings.port}" if settings.port else "",
    )
    token = secrets.token_hex(8)
    return [msgspec.structs.replace(question, token=token) for question in questions]


def targets_of(rank: int, visits: list[Visit], backend: str) -> tuple[Target, ...]:
    """The open ports that this rank will connect to: the next rank's in the ring, and rank 0's."""
    first, following = visits[0], visits[(rank + 1) % len(visits)]
    targets = []
    if backend == "ring" and len(visits) > 1:
        targets += _open(following, "ring")
    if rank > 0:
        if backend != "ring":
            targets += _open(first, "coordinator")
        if first.facts and first.facts.control and not first.facts.control.failure:
            targets.append(Target(first.label, first.facts.control.address, "control"))
    return tuple(targets)


def _open(peer: Visit, purpose: str) -> list[Target]:
    ports = peer.facts.listening if peer.facts else ()
    return [Target(peer.label, port.address, purpose) for port in ports if not port.failure]


async def _look(conversation: Conversation, visit: Visit) -> Visit:
    answer = await conversation.look(visit.question, FACTS_SECONDS)
    if isinstance(answer, Facts):
        return msgspec.structs.replace(visit, facts=answer)
    return msgspec.structs.replace(visit, trouble=answer)


async def _reach(conversation: Conversation, visit: Visit) -> Visit:
    if visit.facts is None:
        return visit
    answer = await conversation.reach(tuple(target.address for target in visit.targets), REACH_SECONDS)
    if isinstance(answer, Trouble):
        return msgspec.structs.replace(visit, trouble=answer)
    reached, clock = answer
    return msgspec.structs.replace(visit, reached=reached.peers, clock=clock)
