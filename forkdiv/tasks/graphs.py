"""Labelled graphs for the graph tasks: consecutive branch nodes with indistinguishable arms.

Every graph has a rank, and ranks are visited in a keyed pseudo-random order. So problems are
distinct without storing them, and the end of a small family of graphs is detected.
"""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from forkdiv.core.shuffle import Shuffled
from forkdiv.tasks.base import too_few

# A problem's split follows from its content hash: each split has a share of 16 buckets.
SPLIT_BUCKETS = {
    "pretrain": range(9),
    "train": range(9, 13),
    "validation": range(13, 14),
    "test": range(14, 16),
}
COUNTED_EXACTLY = 20_000  # up to this size the graphs of each split are counted, not estimated


def node_names(count: int) -> list[str]:
    """Returns `a`..`z`, then `a1`..`z1` and so on."""
    letters = string.ascii_lowercase
    return [letters[i % 26] + (str(i // 26) if i >= 26 else "") for i in range(count)]


@dataclass(frozen=True, slots=True)
class Stage:
    """A branch node with its arms, as lists of nodes without the branch node.

    The valid arms all lead to `exit`, which is not listed in them; the other arms have ends of
    their own.
    """

    entry: str
    exit: str
    valid: tuple[tuple[str, ...], ...]
    other: tuple[tuple[str, ...], ...]

    def paths(self) -> Iterator[tuple[str, ...]]:
        """Yields every arm from the branch node to its end, valid arms first."""
        for arm in self.valid:
            yield (self.entry, *arm, self.exit)
        for arm in self.other:
            yield (self.entry, *arm)


@dataclass(frozen=True)
class Graph:
    """Consecutive stages: the exit of a stage is the branch node of the next."""

    stages: tuple[Stage, ...]

    @property
    def root(self) -> str:
        return self.stages[0].entry

    @property
    def target(self) -> str:
        return self.stages[-1].exit

    def edges(self) -> list[tuple[str, str]]:
        return [edge for stage in self.stages for path in stage.paths() for edge in pairwise(path)]

    def valid_first_edges(self, stage: Stage) -> list[tuple[str, str]]:
        """Returns the first edges of the valid arms of a stage."""
        return [(stage.entry, arm[0]) for arm in stage.valid]

    @cached_property
    def key(self) -> str:
        """A hash that does not depend on the order of edges, the target or signs, so that all
        problems of a graph are in the same split."""
        listing = " ".join(sorted(f"{a}>{b}" for a, b in self.edges()))
        return hashlib.blake2b(listing.encode(), digest_size=10).hexdigest()

    @property
    def bucket(self) -> int:
        return int(self.key[-1], 16)


@dataclass(frozen=True)
class GraphSpace:
    """All graphs of one shape: `forks` stages with `degree` arms of `length` edges each, `valid` of
    them valid, and `names` possible node names."""

    degree: int
    length: int
    forks: int
    valid: int
    names: int

    @cached_property
    def node_names(self) -> list[str]:
        return node_names(self.names)

    @cached_property
    def count(self) -> int:
        """The number of graphs with a target, up to the order of arms."""
        nodes = self.degree * (self.length - 1) + (self.degree - self.valid) + 1
        order = math.factorial(self.valid) * math.factorial(self.degree - self.valid)
        every = math.perm(self.names, 1 + self.forks * nodes)
        return int(every // order**self.forks)

    def available(self, split: str) -> int:
        """Returns the number of graphs of the split: exact if few, else from the split's share."""
        if self.count > COUNTED_EXACTLY:
            return self.count * len(SPLIT_BUCKETS[split]) // 16
        return self._counted[split]

    @cached_property
    def _counted(self) -> dict[str, int]:
        buckets = [self.graph(rank).bucket for rank in range(self.count)]
        return {
            split: sum(bucket in shares for bucket in buckets)
            for split, shares in SPLIT_BUCKETS.items()
        }

    def draw(self, split: str, count: int, seed: int) -> Iterator[Graph]:
        """Yields `count` distinct graphs of the split, in the order that `seed` determines.

        Raises UserError after the last graph if the split has fewer.
        """
        buckets = SPLIT_BUCKETS[split]
        order = Shuffled(self.count, f"graphs/{split}/{seed}")
        drawn = 0
        for index in range(self.count):
            if drawn == count:
                return
            graph = self.graph(order(index))
            if graph.bucket in buckets:
                drawn += 1
                yield graph
        if drawn < count:
            raise too_few(split, count, drawn)

    def graph(self, rank: int) -> Graph:
        """Returns the graph of a rank: each digit selects one of the remaining node names."""
        pool = list(self.node_names)
        digits = _Digits(rank)
        entry = digits.pick(pool)
        stages = []
        for _ in range(self.forks):
            exit_node = digits.pick(pool)
            valid = self._arms(digits, pool, self.valid, self.length - 1)
            other = self._arms(digits, pool, self.degree - self.valid, self.length)
            stages.append(Stage(entry, exit_node, valid, other))
            entry = exit_node
        return Graph(tuple(stages))

    def _arms(
        self, digits: _Digits, pool: list[str], arms: int, nodes: int
    ) -> tuple[tuple[str, ...], ...]:
        firsts = digits.combination(pool, arms)
        return tuple((first, *(digits.pick(pool) for _ in range(nodes - 1))) for first in firsts)


class _Digits:
    """A rank, read digit by digit in mixed radix."""

    def __init__(self, rank: int) -> None:
        self._rest = rank

    def pick(self, pool: list[str]) -> str:
        """Removes an item from the pool and returns it."""
        self._rest, digit = divmod(self._rest, len(pool))
        return pool.pop(digit)

    def combination(self, pool: list[str], size: int) -> list[str]:
        """Removes `size` items from the pool and returns them in its order; every set has one
        number (the combinatorial number system)."""
        if size == 1:
            return [self.pick(pool)]
        self._rest, number = divmod(self._rest, math.comb(len(pool), size))
        at, chosen = len(pool), []
        for left in range(size, 0, -1):
            at -= 1
            while math.comb(at, left) > number:
                at -= 1
            number -= math.comb(at, left)
            chosen.append(pool[at])
        for name in chosen:
            pool.remove(name)
        return chosen[::-1]
