"""Cargo: what has to travel where the calls of a model's layers are cut into ranks.

Nearly always it is one array, the hidden state that the last call returned. Some models' layers return more, or read
what an early one returned, or are each given something made from the tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where an array that travels comes from: a call returned it at `path`, or was first to be given it there."""

    call: int
    path: str
    is_given: bool = False
    """It was made from the tokens, outside the layers, and so on rank 0."""


class Cargo:
    """The sources of what travels across each cut. Cut number c is before call c; the last one is before the tail."""

    def __init__(
        self, returned: Sequence[Any], uses: Mapping[Source, int], given: Mapping[int, Mapping[str, Source]]
    ) -> None:
        """`returned`: what each call returned, with a `Form` for each array.

        `uses`: the last call that uses each source, the tail being the one after the last. `given`: for each call, the
        sources of those of its arguments that were made from the tokens.
        """
        self.calls = len(returned)
        self._returned = returned
        self._given = given
        self._across: dict[int, list[Source]] = defaultdict(list)
        self._leaving: dict[int, list[Source]] = defaultdict(list)
        self._given_first: dict[int, list[Source]] = defaultdict(list)
        for source, last in sorted(uses.items(), key=lambda item: (item[0].call, item[0].path)):
            (self._given_first if source.is_given else self._leaving)[source.call].append(source)
            for cut in range(1 if source.is_given else source.call + 1, last + 1):
                self._across[cut].append(source)

    @classmethod
    def unknown(cls) -> Cargo:
        """Of a model that runs on one rank only."""
        return cls([], {}, {})

    def across(self, cut: int) -> list[Source]:
        """What travels across `cut`."""
        return self._across.get(cut, [])

    def leaving(self, call: int) -> list[Source]:
        """What `call` returns that others need."""
        return self._leaving.get(call, [])

    def given(self, call: int) -> Mapping[str, Source]:
        """By path, the arguments of `call` that travel."""
        return self._given.get(call, {})

    def given_first(self, call: int) -> list[Source]:
        """What travels that `call` is the first to be given."""
        return self._given_first.get(call, [])

    def returned(self, call: int) -> Any:
        """What `call` returned, with a `Form` for each array."""
        return self._returned[call]
