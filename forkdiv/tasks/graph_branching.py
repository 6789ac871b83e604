"""Graph branching: one fork at the root, arms that look alike, a target at the end of one.

A problem at degree 3 and length 3, its fork signed (`!` marks the right edge):

    edges: k>c m>j h>e a!k e>p a>m c>f a>h j>b start: a goal: f path:

Correct responses: `a k c f` (forward, chooses at the fork) and `f c k a` (reverse, every
step determined). Unsigned, the edge reads `a>k`, and nothing short of a look-ahead of
`length` edges tells which of the three arms leads to f.

Edges are listed one by one and shuffled: whole chains, or a fixed order, would give the
arm away by position.
"""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import networkx as nx

from forkdiv.config import GraphBranchingConfig
from forkdiv.errors import refuse
from forkdiv.records import Example, Outcome, Problem, Trace, Verdict
from forkdiv.tasks.base import derive

SIGNED, UNSIGNED = "signed", "unsigned"
FORWARD, REVERSE = "forward", "reverse"
PLAIN_EDGE, MARKED_EDGE = ">", "!"

# Why a parsable answer is wrong: lost at the fork, or after it.
OTHER_ENDS = "a real path with other ends"
BROKEN_PATH = "uses an edge that does not exist"

# A problem's split is read off its content hash: these are shares of 16 buckets.
SPLIT_BUCKETS = {
    "pretrain": range(9),
    "train": range(9, 13),
    "validation": range(13, 14),
    "test": range(14, 16),
}


def node_names(count: int) -> list[str]:
    """`a`..`z`, then `a1`..`z1` and so on."""
    letters = string.ascii_lowercase
    return [letters[i % 26] + (str(i // 26) if i >= 26 else "") for i in range(count)]


@dataclass(frozen=True, slots=True)
class Graph:
    """Arms as node lists without the root; the first arm ends in the target."""

    root: str
    arms: tuple[tuple[str, ...], ...]

    @property
    def target(self) -> str:
        return self.arms[0][-1]

    @property
    def path(self) -> list[str]:
        return [self.root, *self.arms[0]]

    def edges(self) -> list[tuple[str, str]]:
        """Edges, the right one at the fork first."""
        return [edge for arm in self.arms for edge in zip((self.root, *arm[:-1]), arm, strict=True)]

    def key(self) -> str:
        """The same for every listing order, every target, and with or without the sign.

        So all problems over one graph are in one split.
        """
        listing = " ".join(sorted(f"{a}>{b}" for a, b in self.edges()))
        return hashlib.blake2b(listing.encode(), digest_size=10).hexdigest()


class GraphBranching:
    """The task; see the module's head for a problem."""

    subsets = (SIGNED, UNSIGNED)

    def __init__(self, config: GraphBranchingConfig) -> None:
        self.config = config
        self._names = node_names(config.names)

    def vocabulary(self) -> list[str]:
        return ["edges:", "start:", "goal:", "path:", PLAIN_EDGE, MARKED_EDGE, *self._names]

    def longest_response(self) -> int:
        return self.config.length + 2

    def distinct(self, split: str) -> int:
        """Ways to name the nodes, the order of the arms aside, times the split's share."""
        degree, length = self.config.degree, self.config.length
        graphs = math.perm(self.config.names, degree * length + 1) // math.factorial(degree)
        return graphs * len(SPLIT_BUCKETS[split]) // 16

    def heldout(self, split: str, count: int) -> list[Problem]:
        """Half signed, half unsigned, no graph twice; a longer list begins with the shorter."""
        return [
            self._problem(graph, split, self.subsets[i % 2], derive("listing", split, graph.key()))
            for i, graph in enumerate(self._graphs(split, count, self.config.seed))
        ]

    def sft_examples(
        self, count: int, fork_density: float, direction: float, seed: int
    ) -> Iterator[Example]:
        """Graphs, listings and directions do not depend on the density: only the marks do."""
        unsigned = _share(count, fork_density, derive("density", seed))
        forward = _share(count, direction, derive("direction", seed))
        for i, graph in enumerate(self._graphs("train", count, seed)):
            subset = UNSIGNED if i in unsigned else SIGNED
            problem = self._problem(graph, "train", subset, derive("listing", seed, graph.key()))
            trace = _trace(graph.path, FORWARD if i in forward else REVERSE)
            yield Example(
                problem.id, problem.prompt, trace.text, subset, trace.direction, trace.forks
            )

    def walk_examples(self, count: int, walks: int, separator: str, seed: int) -> Iterator[Example]:
        """`walks` independent walks per graph: several over one graph multiply the signal."""
        for i, graph in enumerate(self._graphs("pretrain", count, seed)):
            random = derive("walks", seed, graph.key())
            subset = self.subsets[i % 2]
            problem = self._problem(graph, "pretrain", subset, random)
            paths = ([graph.root, *random.choice(graph.arms)] for _ in range(walks))
            response = separator.join(" ".join(path) for path in paths)
            yield Example(problem.id, problem.prompt, response, subset, FORWARD, walks)

    def solutions(self, problem: Problem) -> list[Trace]:
        """All simple paths between start and target, each in both directions."""
        start, target = problem.facts["start"], problem.facts["target"]
        graph = nx.DiGraph([tuple(edge) for edge in problem.facts["edges"]])
        paths = sorted(nx.all_simple_paths(graph, start, target))
        return [_trace(path, way) for path in paths for way in (FORWARD, REVERSE)]

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Correct means a real path between start and target, read in either direction."""
        nodes = text.split()
        known = set(self._names)
        if not nodes or any(node not in known for node in nodes):
            return Verdict(Outcome.UNPARSABLE, None, "not a list of node names")
        answer = " ".join(nodes)
        start, target = problem.facts["start"], problem.facts["target"]
        edges = {tuple(edge) for edge in problem.facts["edges"]}
        real = [way for way in (nodes, nodes[::-1]) if edges.issuperset(pairwise(way))]
        if not real:
            return Verdict(Outcome.WRONG, answer, BROKEN_PATH)
        if all((way[0], way[-1]) != (start, target) for way in real):
            return Verdict(Outcome.WRONG, answer, OTHER_ENDS)
        return Verdict(Outcome.CORRECT, answer)

    def _graphs(self, split: str, count: int, seed: int) -> Iterator[Graph]:
        """`count` distinct graphs whose content puts them into `split`."""
        random = derive("graphs", split, seed)
        buckets = SPLIT_BUCKETS[split]
        seen: set[int] = set()
        misses = 0
        while len(seen) < count:
            graph = self._draw(random)
            number = int(graph.key(), 16)
            # 80 bits of the hash keep "distinct" exact in practice at a few bytes a problem
            if number % 16 in buckets and number not in seen:
                seen.add(number)
                misses = 0
                yield graph
                continue
            misses += 1
            if misses > 10_000:
                raise refuse(
                    f"the task has too few distinct problems for the {split} split",
                    f"{count} problems asked, {len(seen)} found",
                    "fewer problems, or a larger graph",
                    "lower the count or raise task.names, task.degree or task.length",
                )

    def _draw(self, random: Random) -> Graph:
        degree, length = self.config.degree, self.config.length
        nodes = random.sample(self._names, degree * length + 1)
        arms = tuple(tuple(nodes[1 + i * length : 1 + (i + 1) * length]) for i in range(degree))
        return Graph(nodes[0], arms)

    def _problem(self, graph: Graph, split: str, subset: str, random: Random) -> Problem:
        edges = graph.edges()
        right = edges[0]
        listed = random.sample(edges, len(edges))
        marks = [
            MARKED_EDGE if subset == SIGNED and edge == right else PLAIN_EDGE for edge in listed
        ]
        listing = " ".join(f"{a}{mark}{b}" for (a, b), mark in zip(listed, marks, strict=True))
        prompt = f"edges: {listing} start: {graph.root} goal: {graph.target} path:"
        facts = {
            "start": graph.root,
            "target": graph.target,
            "edges": [list(edge) for edge in listed],
            "fork": [b for a, b in listed if a == graph.root],
        }
        id = f"{graph.key()}-{graph.target}-{subset}"
        return Problem(id, split, subset, prompt, facts)


def _share(count: int, share: float, random: Random) -> frozenset[int]:
    """Exactly round(share * count) indices; those of a smaller share are among a larger's."""
    order = random.sample(range(count), count)
    return frozenset(order[: round(share * count)])


def _trace(path: list[str], direction: str) -> Trace:
    nodes = path if direction == FORWARD else path[::-1]
    return Trace(" ".join(nodes), direction, forks=int(direction == FORWARD))
