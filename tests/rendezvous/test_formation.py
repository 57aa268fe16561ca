"""What an engine process of a group of some ranks is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import msgspec

from mlxserve.config import Capacity, Place, Settings
from mlxserve.place import over_ring
from mlxserve.rendezvous.formation import Formation, named

RING = (("10.0.0.1:5000", "10.0.1.1:5001"), ("10.0.0.2:5002",), ("10.0.0.3:5003",))
TRIO = Place(2, 3, "ring", tuple(addresses[0] for addresses in RING), ring=RING, control="10.0.9.1")
INHERITED = {"MLX_RANK": "2", "MLX_HOSTFILE": "/all.json", "HOME": "/home/me"}


def test_the_whole_group_is_as_it_was_planned() -> None:
    whole = Formation(TRIO, (0, 1, 2))
    settings = Settings(TRIO, split=(1, 2, 3))
    assert whole.missing == ()
    assert whole.settings(settings) == settings
    with whole.variables(INHERITED) as (variables, descriptors):
        assert (variables, descriptors) == (INHERITED, [])


def test_a_rank_moves_up_where_others_are_missing() -> None:
    formation = Formation(TRIO, (0, 2))
    assert formation.missing == (1,)
    place = formation.place
    assert (place.rank, place.world_size, place.control) == (1, 2, "10.0.9.1")
    assert place.ring == (RING[0], RING[2])
    assert place.addresses == ("10.0.0.1:5000", "10.0.0.3:5003")
    assert named(TRIO, formation.missing) == "rank 1 (10.0.0.2)"


def test_layers_that_were_named_for_the_whole_group_are_split_anew() -> None:
    assert Formation(TRIO, (0, 2)).settings(Settings(TRIO, split=(1, 2, 3))).split == ()


def test_each_rank_that_is_there_keeps_its_own_memory_limit_and_what_its_machine_has() -> None:
    place = msgspec.structs.replace(TRIO, capacity=Capacity(5, 7.0))
    settings = Formation(TRIO, (0, 2)).settings(Settings(place, memory_limit=(10, 20, 30)))
    assert settings.memory_limit == (10, 30)
    assert settings.own_memory_limit == 30
    assert settings.place.capacity == Capacity(5, 7.0)
    assert Formation(TRIO, (0, 2)).settings(Settings(TRIO, memory_limit=(10,))).own_memory_limit == 10


def test_the_process_reads_its_ring_from_a_file_without_a_name() -> None:
    reading = "import os; print(os.environ['MLX_RANK'], open(os.environ['MLX_HOSTFILE']).read())"
    with Formation(TRIO, (0, 2)).variables({**os.environ, **INHERITED}) as (variables, descriptors):
        told = subprocess.run(
            [sys.executable, "-c", reading], env=variables, pass_fds=descriptors, capture_output=True, text=True
        )
    rank, _, ring = told.stdout.partition(" ")
    assert rank == "1"
    assert json.loads(ring) == [list(RING[0]), list(RING[2])]


def test_rank_0_alone_has_no_ring() -> None:
    alone = Formation(Place(0, 3, "ring", TRIO.addresses, ring=RING), (0,))
    assert (alone.place.rank, alone.place.world_size, alone.place.addresses) == (0, 1, ())
    with alone.variables(INHERITED) as (variables, descriptors):
        assert (variables, descriptors) == ({"HOME": "/home/me"}, [])


def test_a_whole_group_that_has_fallen_back_to_its_ring_has_nothing_left_of_jaccl() -> None:
    jaccl = {"MLX_RANK": "1", "MLX_JACCL_COORDINATOR": "10.0.0.1:4999", "MLX_IBV_DEVICES": "/rdma.json", "HOME": "/me"}
    place = over_ring(Place(1, 2, "jaccl", ("10.0.0.1:4999",), fallback=RING[:2]))
    with Formation(place, (0, 1)).variables(jaccl) as (variables, descriptors):
        path = variables.pop("MLX_HOSTFILE")
        assert variables == {"MLX_RANK": "1", "HOME": "/me"}
        assert path == f"/dev/fd/{descriptors[0]}"
        assert json.loads(os.read(descriptors[0], 1000)) == [list(RING[0]), list(RING[1])]
