"""Graph branching: consecutive forks with indistinguishable arms; valid arms lead to the target.

A problem with one fork of degree 3 and arms of length 3, signed (`!` marks the right edge):

    edges: k>c m>j h>e a!k e>p a>m c>f a>h j>b start: a goal: f path:

Correct responses: `a k c f` (forward: chooses at the fork) and `f c k a` (reverse: every step is
determined). In an unsigned problem the edge reads `a>k`, and only a look-ahead of `length` edges
shows which of the three arms leads to f.

If `valid` is greater than 1, all valid arms meet in one node and each is correct. If `forks` is
greater than 1, that node branches again. Edges are listed in random order: listing whole chains,
or a fixed order, would reveal the right arm by position.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any, Literal, Self

import networkx as nx
from pydantic import Field, model_validator

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import refuse
from forkdiv.core.records import Example, Fork, Outcome, Problem, Trace, Verdict
from forkdiv.core.shuffle import Shuffled, chosen, spread
from forkdiv.tasks.base import Task, derive, even_count, example
from forkdiv.tasks.graphs import Graph, GraphSpace, Stage

SIGNED, UNSIGNED, MIXED = "signed", "unsigned", "mixed"
FORWARD, REVERSE = "forward", "reverse"
PLAIN_EDGE, MARKED_EDGE = ">", "!"

# Reasons why a parsable answer is wrong: at the fork, or after it.
OTHER_ENDS = "a real path with other ends"
BROKEN_PATH = "uses an edge that does not exist"


class GraphBranchingConfig(TaskConfig):
    """The graph task: branch nodes in a row, each with arms that look the same near the branch."""

    kind: Literal["graph_branching"] = "graph_branching"
    degree: int = Field(3, ge=2, le=64, description="Arms of each branch node.")
    length: int = Field(
        3,
        ge=3,
        le=64,
        description="Edges of each arm; with 2, its first node would be next to the target.",
    )
    forks: int = Field(1, ge=1, le=16, description="Branch nodes in a row.")
    valid: int = Field(
        1, ge=1, le=64, description="Arms of each branch node that lead to the target."
    )
    names: int = Field(16, ge=7, le=2600, description="Number of node names to choose from.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.valid >= self.degree:
            raise ValueError(
                f"valid={self.valid} of degree={self.degree} arms leave no choice at a fork; "
                "allowed: fewer than degree; lower task.valid"
            )
        needed = self.nodes
        if self.names < needed:
            raise ValueError(
                f"names={self.names} is too few for degree={self.degree}, length={self.length} "
                f"and forks={self.forks}; allowed: at least {needed}; raise task.names"
            )
        return self

    @property
    def nodes(self) -> int:
        """The number of nodes of one graph; valid arms share their last node."""
        per_fork = self.degree * (self.length - 1) + (self.degree - self.valid) + 1
        return 1 + self.forks * per_fork


class GraphBranching(Task):
    """The task; the module docstring shows a problem."""

    config_class = GraphBranchingConfig
    config: GraphBranchingConfig

    subsets = (SIGNED, UNSIGNED)
    exhaustive = True
    enumerates = True

    def __init__(self, config: GraphBranchingConfig) -> None:
        super().__init__(config)
        self.sizes = {"train": 800, "validation": 200, "test": 200}
        several = {"branch_coverage", "synthesis"} if config.valid > 1 else set()
        self.knobs = frozenset({"fork_density", "direction", *several})
        self._space = GraphSpace(
            config.degree, config.length, config.forks, config.valid, config.names
        )
        self._names = frozenset(self._space.node_names)

    def vocabulary(self) -> list[str]:
        labels = ["edges:", "start:", "goal:", "path:", PLAIN_EDGE, MARKED_EDGE]
        return [*labels, *self._space.node_names]

    def longest_response(self) -> int:
        return self.config.forks * self.config.length + 2

    def available(self, split: str) -> int:
        return self._space.available(split)

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        """Half of the problems have all forks signed, the other half none."""
        requested = even_count(self, split, count)
        problems = []
        for i, graph in enumerate(self._space.draw(split, requested, self.config.seed)):
            signs = [self.subsets[i % 2] == SIGNED] * self.config.forks
            problems.append(_problem(graph, split, signs, derive("listing", split, graph.key)))
        return problems

    def content_of(self, problem_id: str) -> str:
        """The graph and its target, without the signs."""
        return problem_id.rpartition("-")[0]

    def sft_examples(self, config: DatasetConfig) -> Iterator[Example]:
        """Graphs and listings depend on neither knob, directions not on the density, and marks
        not on the direction.

        Both shares are exact over all problems. With mixed directions, the density among forward
        traces deviates by a few problems (one fork per problem) or is random (several forks); the
        dataset card states it.
        """
        shown = self._shown(config)
        forks, seed = self.config.forks, config.seed
        count = self.examples(config) // shown
        unsigned = chosen(count * forks, config.fork_density, f"density/{seed}")
        rank = unsigned.rank if forks == 1 else Shuffled(count, f"direction/{seed}")
        forward = round(count * config.direction)
        for i, graph in enumerate(self._space.draw("train", count, seed)):
            mode = FORWARD if spread(rank(i), count) < forward else REVERSE
            signs = [i * forks + j not in unsigned for j in range(forks)]
            problem = _problem(graph, "train", signs, derive("listing", seed, graph.key))
            for path in _covering(graph, shown, derive("arms", seed, graph.key)):
                trace = _trace(path, mode)
                yield example(problem, trace, self._trace_forks(graph, path, mode, signs))

    def _shown(self, config: DatasetConfig) -> int:
        """Returns the number of valid arms that the data shows per problem."""
        shown, valid = config.branch_coverage, self.config.valid
        if shown is None:
            return 1
        if valid == 1:
            raise refuse(
                "dataset.branch_coverage needs a task with several valid arms",
                f"dataset.branch_coverage={shown} with task.valid=1",
                "task.valid=2 or more, or no dataset.branch_coverage",
                "raise task.valid, or remove dataset.branch_coverage",
            )
        if shown > valid:
            raise refuse(
                "dataset.branch_coverage exceeds the number of valid arms",
                f"dataset.branch_coverage={shown}",
                f"1 to task.valid={valid}",
                "lower dataset.branch_coverage",
            )
        if self.examples(config) % shown:
            raise refuse(
                "the number of examples must be a multiple of the arms shown per problem",
                f"dataset.examples={self.examples(config)}",
                f"a multiple of dataset.branch_coverage={shown}",
                "correct dataset.examples",
            )
        return shown

    @staticmethod
    def _trace_forks(graph: Graph, path: list[str], mode: str, signs: list[bool]) -> list[Fork]:
        """Returns the forks of a generated trace without parsing the problem."""
        if mode == REVERSE:
            return []
        starts = [0]
        for node in path:
            starts.append(starts[-1] + len(node) + 1)
        position = {node: at for at, node in enumerate(path)}
        return [
            _fork(stage, starts[position[stage.entry] + 1], signed)
            for stage, signed in zip(graph.stages, signs, strict=True)
        ]

    def walk_examples(self, config: PretrainConfig, separator: str) -> Iterator[Example]:
        """`walks` independent walks per graph, since several walks of a graph teach more.

        A reverse walk starts at the end of any arm of the last fork, so that it ignores the target
        like a forward walk.
        """
        forward = chosen(config.examples, config.direction, f"walks/direction/{config.seed}")
        for i, graph in enumerate(self._space.draw("pretrain", config.examples, config.seed)):
            random = derive("walks", config.seed, graph.key)
            signs = [i % 2 == 0] * self.config.forks
            problem = _problem(graph, "pretrain", signs, random)
            mode = FORWARD if i in forward else REVERSE
            walks = [_walk(graph, mode, random) for _ in range(config.walks)]
            response = separator.join(" ".join(walk) for walk in walks)
            branching = {stage.entry for stage in graph.stages}
            passing = walks if mode == FORWARD else []
            forks = sum(len(branching.intersection(walk[:-1])) for walk in passing)
            unsigned = 0 if signs[0] else forks
            yield Example(
                problem.id, problem.prompt, response, problem.subset, mode, forks, unsigned, "{}"
            )

    def solutions(self, problem: Problem) -> list[Trace]:
        """All simple paths between start and target, each in both directions."""
        start, target = problem.facts["start"], problem.facts["target"]
        paths = sorted(nx.all_simple_paths(_directed(problem.facts), start, target))
        return [_trace(path, mode) for path in paths for mode in (FORWARD, REVERSE)]

    def forks(self, problem: Problem, text: str) -> list[Fork]:
        """The branch nodes on a forward trace. A reverse trace has none: at a node where valid arms
        meet, every way back is correct."""
        nodes, facts = text.split(), problem.facts
        if not nodes or nodes[0] != facts["start"]:
            return []
        graph = _directed(facts)
        useful = {facts["target"], *nx.ancestors(graph, facts["target"])}
        marked = {tuple(edge) for edge in facts["marked"]}
        forks, at = [], 0
        for node, following in pairwise(nodes):
            at = text.index(following, text.index(node, at) + len(node))
            branches = sorted(graph.successors(node)) if node in graph else []
            if len(branches) > 1:
                valid = tuple(branch for branch in branches if branch in useful)
                signed = any((node, branch) in marked for branch in valid)
                forks.append(Fork(at, tuple(branches), valid, signed))
        return forks

    def verify(self, problem: Problem, text: str) -> Verdict:
        """A response is correct if it is a path between start and target, in either direction."""
        nodes = text.split()
        if not nodes or any(node not in self._names for node in nodes):
            return Verdict(Outcome.UNPARSABLE, None, "not a list of node names")
        answer = " ".join(nodes)
        start, target = problem.facts["start"], problem.facts["target"]
        mode = FORWARD if nodes[0] == start else REVERSE if nodes[0] == target else ""
        edges = {tuple(edge) for edge in problem.facts["edges"]}
        real = [way for way in (nodes, nodes[::-1]) if edges.issuperset(pairwise(way))]
        if not real:
            return Verdict(Outcome.WRONG, answer, BROKEN_PATH, mode)
        if all((way[0], way[-1]) != (start, target) for way in real):
            return Verdict(Outcome.WRONG, answer, OTHER_ENDS, mode)
        return Verdict(Outcome.CORRECT, answer, "", mode)


def _problem(
    graph: Graph, split: str, signs: list[bool], random: Random, label: str = "path:"
) -> Problem:
    edges = graph.edges()
    listed = random.sample(edges, len(edges))
    marked = {
        edge
        for stage, signed in zip(graph.stages, signs, strict=True)
        if signed
        for edge in graph.valid_first_edges(stage)
    }
    listing = " ".join(
        f"{a}{MARKED_EDGE if (a, b) in marked else PLAIN_EDGE}{b}" for a, b in listed
    )
    prompt = f"edges: {listing} start: {graph.root} goal: {graph.target} {label}"
    subset = SIGNED if all(signs) else MIXED if any(signs) else UNSIGNED
    facts = {
        "start": graph.root,
        "target": graph.target,
        "edges": [list(edge) for edge in listed],
        "marked": [list(edge) for edge in listed if edge in marked],
    }
    signature = subset if subset != MIXED else "".join("su"[not sign] for sign in signs)
    return Problem(f"{graph.key}-{graph.target}-{signature}", split, subset, prompt, facts)


def _covering(graph: Graph, shown: int, random: Random) -> Iterator[list[str]]:
    """Yields `shown` paths to the target that take different valid arms at every fork."""
    arms = [random.sample(stage.valid, shown) for stage in graph.stages]
    for way in zip(*arms, strict=True):
        path = [graph.root]
        for stage, arm in zip(graph.stages, way, strict=True):
            path += [*arm, stage.exit]
        yield path


def _walk(graph: Graph, mode: str, random: Random) -> list[str]:
    nodes = [graph.root]
    for at, stage in enumerate(graph.stages):
        arm = random.choice([*stage.valid, *stage.other])
        last = at + 1 == len(graph.stages)
        if mode == REVERSE and not last:  # from the end of any arm of the last fork
            arm = random.choice(stage.valid)
        if arm not in stage.valid:
            return _in_direction([*nodes, *arm], mode)
        nodes += [*arm, stage.exit]
    return _in_direction(nodes, mode)


def _fork(stage: Stage, at: int, signed: bool) -> Fork:
    valid = tuple(sorted(arm[0] for arm in stage.valid))
    branches = tuple(sorted(arm[0] for arm in (*stage.valid, *stage.other)))
    return Fork(at, branches, valid, signed)


def _directed(facts: Any) -> nx.DiGraph:
    return nx.DiGraph([tuple(edge) for edge in facts["edges"]])


def _in_direction(path: list[str], mode: str) -> list[str]:
    return path if mode == FORWARD else path[::-1]


def _trace(path: list[str], mode: str) -> Trace:
    return Trace(" ".join(_in_direction(path, mode)), mode)
