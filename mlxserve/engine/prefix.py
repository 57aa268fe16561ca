"""Which prefixes all ranks have stored: a radix tree over tokens.

It decides and plans; the arrays are the ranks' own. Nodes are kept in the order of their last use, and using one uses
its ancestors after it: so children always come before their parents, and what comes first can go first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlxserve.engine.memory import Bound
from mlxserve.engine.prefix_node import Node, Tokens, common_length, key_of, segment_bytes, tokens_of
from mlxserve.engine.prefix_state import StoredSegment, decode, encode
from mlxserve.pipeline.plan import CacheOperation, Drop, Span, Split, Store

FEWEST_NEW = 16
"""Tokens that must be gained for anything to be stored: fewer are read again as fast."""


@dataclass(frozen=True)
class Match:
    """The longest stored beginning of a prompt. Its spans hold until the next `insert`."""

    length: int
    spans: list[Span]


@dataclass
class PrefixFigures:
    """What the index has been good for."""

    asked: int = 0
    hits: int = 0
    tokens_asked: int = 0
    tokens_found: int = 0


class PrefixIndex:
    """The stored prefixes, within a bound of bytes on each rank."""

    def __init__(self, bounds: Sequence[Bound], cuttable: bool) -> None:
        """`bounds`: one a rank. Caches that are not `cuttable` can go on only where they were stored: at snapshots."""
        self._bounds = list(bounds)
        self._cuttable = cuttable
        self._root = Node("", tokens_of([]), 0, None, snapshot=False)
        self._nodes: dict[str, Node] = {}
        self.figures = PrefixFigures()
        self.bytes = [0] * len(self._bounds)
        """Stored on each rank."""
        self.changes = 0
        """How often the tree has changed."""
        self.splits = 0
        """How often a segment was split: what is left of it has another length than before."""

    @property
    def cuttable(self) -> bool:
        """Whether a sequence can go on after any stored token, and not at snapshots alone."""
        return self._cuttable

    def __len__(self) -> int:
        """Segments that are stored."""
        return len(self._nodes)

    def match(self, tokens: Sequence[int]) -> Match:
        """The longest stored beginning of a prompt that leaves at least its last token to be read.

        To be asked once for a sequence, since it counts as a use.
        """
        path, found = self._found(tokens_of(tokens[:-1]))
        self._use(path)
        self.figures.asked += 1
        self.figures.hits += found > 0
        self.figures.tokens_asked += len(tokens)
        self.figures.tokens_found += found
        return Match(found, [Span(node.key, min(node.end, found) - node.start) for node in path])

    def found(self, tokens: Sequence[int]) -> int:
        """How many tokens `match` would find; not counted as a use."""
        return self._found(tokens_of(tokens[:-1]))[1]

    def wanted_border(self, tokens: Sequence[int]) -> int | None:
        """Where a prompt should be stored on its way, as others begin the same and no snapshot is there."""
        if self._cuttable:
            return None
        read = tokens_of(tokens[:-1])
        path, common = self._walk(read)
        return common if common - self._usable(path, common) >= FEWEST_NEW else None

    def insert(self, tokens: Sequence[int], batch: int, row: int) -> list[CacheOperation]:
        """Store what is new of the `tokens` that `row` of `batch` holds: exactly these, unless caches are cuttable.

        The least recently used make room, never what these tokens begin with. Nothing is stored where there is no room.
        """
        all_tokens = tokens_of(tokens)
        path, common = self._walk(all_tokens)
        if len(all_tokens) - self._usable(path, common) < FEWEST_NEW or not self.fits(len(all_tokens)):
            self._use(path)
            return []
        operations: list[CacheOperation] = []
        if path and common < path[-1].end:
            operations.append(self._split(path, all_tokens[:common]))
        room = self._make_room(path, all_tokens, ends_at_node=common == len(all_tokens))
        if room is not None:
            operations += [Drop(node.key) for node in (*room.victims, *room.merged)]
            operations.append(self._store(path, room, all_tokens, batch, row))
        self._use(path)
        return operations

    def fits(self, length: int) -> bool:
        """Whether a sequence of so many tokens can be stored at all."""
        return _within(self._costs(0, length, snapshot=True), [bound.bytes for bound in self._bounds])

    def pin(self, match: Match) -> None:
        """Keep what was found until it is unpinned."""
        if match.spans:
            self._nodes[match.spans[-1].key].pins += 1

    def unpin(self, match: Match) -> None:
        """Let what was found be evicted again."""
        if match.spans:
            self._nodes[match.spans[-1].key].pins -= 1

    def state(self) -> bytes:
        """The whole tree, for `restore`."""
        return encode(self._nodes.values())

    def restore(self, state: bytes, stored: Sequence[Mapping[str, int]]) -> list[Drop]:
        """Take over, into an empty index, what a former run's `state` says and every rank still has.

        `stored`: for each rank the keys and token counts of its segments. Returns what has to be dropped: a key may be
        unknown to some ranks. A damaged state is an empty one.
        """
        for segment in reversed(decode(state)):  # parents first
            tokens = segment.unpacked()
            if tokens and all(rank.get(segment.key) == len(tokens) for rank in stored):
                self._restore(segment, tokens)
        self._nodes = dict(reversed(self._nodes.items()))
        passages = [node for node in self._nodes.values() if not self._cuttable and _leads_nowhere(node)]
        for node in (*passages, *(self._victims([0] * len(self._bounds), []) or [])):
            self._forget(node)
        self.changes += 1
        keys = dict.fromkeys(key for rank in stored for key in rank)
        return [Drop(key) for key in keys if key not in self._nodes]

    def _restore(self, segment: StoredSegment, tokens: Tokens) -> None:
        parent = self._nodes.get(segment.parent) if segment.parent else self._root
        if parent is None or tokens[0] in parent.children or segment.key in self._nodes:
            return
        node = Node(segment.key, tokens, parent.end, parent, segment.snapshot)
        parent.children[tokens[0]] = node
        self._nodes[node.key] = node
        self._count(node, 1)

    def _walk(self, tokens: Tokens) -> tuple[list[Node], int]:
        """The nodes that `tokens` go through, the last perhaps only in part, and how many tokens are stored."""
        path, node, at = list[Node](), self._root, 0
        while at == node.end and at < len(tokens) and (child := node.children.get(tokens[at])):
            at += common_length(child.tokens, tokens[at : at + len(child.tokens)])
            path.append(child)
            node = child
        return path, at

    def _found(self, tokens: Tokens) -> tuple[list[Node], int]:
        """The nodes that a sequence can take over, the last perhaps only in part, and their tokens."""
        path, common = self._walk(tokens)
        usable = self._usable(path, common)
        return [node for node in path if node.start < usable], usable

    def _usable(self, path: list[Node], common: int) -> int:
        """After how many of the `common` tokens a sequence can go on."""
        if self._cuttable:
            return common
        return max((node.end for node in path if node.snapshot and node.end <= common), default=0)

    def _use(self, path: Iterable[Node]) -> None:
        for node in reversed(list(path)):
            self._nodes[node.key] = self._nodes.pop(node.key)

    def _split(self, path: list[Node], beginning: Tokens) -> Split:
        """Let the last node of `path` end where `beginning` does; the rest of it becomes a child."""
        rest = path[-1]
        before = beginning[rest.start :]
        head = Node(key_of(beginning, not self._cuttable), before, rest.start, rest.parent, snapshot=False)
        self._parent(rest).children[before[0]] = head
        rest.tokens, rest.start, rest.parent = rest.tokens[len(before) :], len(beginning), head
        head.children[rest.tokens[0]] = rest
        self._nodes[head.key] = head
        path[-1] = head
        self.changes += 1
        self.splits += 1
        return Split(rest.key, len(before), head.key)

    def _store(self, path: list[Node], room: _Room, tokens: Tokens, batch: int, row: int) -> Store:
        """Carry out what `room` says, and put the node in its place that holds `tokens` from there on."""
        for node in (*room.victims, *room.merged):
            self._forget(node)
        parent = self._before(path, len(room.merged))
        children = room.merged[-1].children if room.merged and room.merged[-1].end == len(tokens) else {}
        new = Node(key_of(tokens), tokens[parent.end :], parent.end, parent, True, children)
        for child in children.values():
            child.parent = new
        parent.children[new.tokens[0]] = new
        path[len(path) - len(room.merged) :] = [new]
        self._nodes[new.key] = new
        self._count(new, 1)
        self.changes += 1
        return Store(batch, row, new.start, new.end, new.key)

    def _make_room(self, path: list[Node], tokens: Tokens, ends_at_node: bool) -> _Room | None:
        """What has to go for `tokens` to be stored, as little as will do; None if nothing helps.

        A node that ends where the new one does is replaced by it. Where caches cannot be cut, snapshots on the way that
        nothing branches off from can be given up too.
        """
        merged = int(ends_at_node)
        while True:
            replaced = path[len(path) - merged :]
            start = self._before(path, merged).end
            need = self._costs(start, len(tokens), snapshot=True)
            for node in replaced:
                need = [now - freed for now, freed in zip(need, self._costs_of(node), strict=True)]
            victims = self._victims(need, path)
            if victims is not None:
                return _Room(replaced, victims)
            if self._cuttable or merged == len(path) or not self._can_merge(path, merged):
                return None
            merged += 1

    def _can_merge(self, path: list[Node], merged: int) -> bool:
        """Whether the last node before the `merged` ones of `path` leads only to what follows there."""
        node = path[-1 - merged]
        return not node.pins and len(node.children) == min(merged, 1)

    def _victims(self, need: list[int], path: list[Node]) -> list[Node] | None:
        """The least recently used nodes without which `need` bytes more fit each rank; None if that cannot be."""
        spared, gone, victims = {node.key for node in path}, set[str](), list[Node]()
        most = [bound.bytes - more for bound, more in zip(self._bounds, need, strict=True)]
        left = list(self.bytes)
        for node in list(self._nodes.values()):
            if _within(left, most):
                break
            chain = node
            while chain.key not in gone and self._can_go(chain, gone, spared):
                victims.append(chain)
                gone.add(chain.key)
                left = [now - freed for now, freed in zip(left, self._costs_of(chain), strict=True)]
                parent = self._parent(chain)
                if self._cuttable or parent.snapshot or parent is self._root:
                    break
                chain = parent  # it leads nowhere any more
        return victims if _within(left, most) else None

    @staticmethod
    def _can_go(node: Node, gone: set[str], spared: set[str]) -> bool:
        return not node.pins and node.key not in spared and all(child.key in gone for child in node.children.values())

    def _forget(self, node: Node) -> None:
        siblings = self._parent(node).children
        if siblings.get(node.tokens[0]) is node:
            del siblings[node.tokens[0]]
        del self._nodes[node.key]
        self._count(node, -1)
        self.changes += 1

    def _count(self, node: Node, sign: int) -> None:
        self.bytes = [now + sign * cost for now, cost in zip(self.bytes, self._costs_of(node), strict=True)]

    def _costs_of(self, node: Node) -> list[int]:
        return self._costs(node.start, node.end, node.snapshot)

    def _costs(self, start: int, end: int, snapshot: bool) -> list[int]:
        """Bytes on each rank."""
        kept = snapshot and not self._cuttable
        return [segment_bytes(bound.footprint, start, end, kept) for bound in self._bounds]

    def _before(self, path: list[Node], merged: int) -> Node:
        """The node that the last `merged` ones of `path` follow."""
        return path[-1 - merged] if len(path) > merged else self._root

    @staticmethod
    def _parent(node: Node) -> Node:
        assert node.parent is not None
        return node.parent


@dataclass(frozen=True)
class _Room:
    """What goes so that a node can be stored."""

    merged: list[Node]
    """The last nodes of its path, whose tokens the new node has too."""
    victims: list[Node]


def _leads_nowhere(node: Node) -> bool:
    """Whether nothing can go on from it or from what follows it."""
    return not node.snapshot and all(_leads_nowhere(child) for child in node.children.values())


def _within(values: list[int], most: list[int]) -> bool:
    return all(value <= limit for value, limit in zip(values, most, strict=True))
