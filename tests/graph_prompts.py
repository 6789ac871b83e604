"""A graph prompt taken apart, knowing only how prompts are written: what a model could read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.records import Example, Problem
from forkdiv.tasks.graph_branching import GraphBranching, GraphBranchingConfig

Edge = tuple[str, str]
Shape = tuple[int, int, int, int, int]  # degree, length, forks, valid, names


def shaped(shape: Shape, seed: int = 0) -> GraphBranching:
    degree, length, forks, valid, names = shape
    config = GraphBranchingConfig(
        degree=degree, length=length, forks=forks, valid=valid, names=names, seed=seed
    )
    return GraphBranching(config)


def named(shape: Shape) -> str:
    degree, length, forks, valid, _ = shape
    return f"d{degree}-l{length}-f{forks}-v{valid}"


@dataclass(frozen=True)
class Seen:
    """The edges in the order they are listed, which of them are marked, start and goal."""

    edges: tuple[Edge, ...]
    marked: tuple[int, ...]
    start: str
    goal: str

    @property
    def graph(self) -> frozenset[Edge]:
        return frozenset(self.edges)

    @cached_property
    def leaving(self) -> dict[str, list[int]]:
        """The indices of the edges that leave a node, in the order they are listed."""
        found: dict[str, list[int]] = {}
        for i, (tail, _) in enumerate(self.edges):
            found.setdefault(tail, []).append(i)
        return found

    @cached_property
    def entering(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, (_, head) in enumerate(self.edges):
            found.setdefault(head, []).append(i)
        return found

    def branches(self, node: str) -> list[str]:
        """Where the edges that leave a node lead, in the order they are listed."""
        return [self.edges[i][1] for i in self.leaving.get(node, [])]

    @cached_property
    def useful(self) -> frozenset[str]:
        """The nodes that lead to the goal, itself included, by walking back from it."""
        found, waiting = {self.goal}, [self.goal]
        while waiting:
            for i in self.entering.get(waiting.pop(), []):
                tail = self.edges[i][0]
                if tail not in found:
                    found.add(tail)
                    waiting.append(tail)
        return frozenset(found)

    def right(self, node: str) -> list[str]:
        """The branches of a node that lead to the goal."""
        return [branch for branch in self.branches(node) if branch in self.useful]

    @cached_property
    def forks(self) -> list[str]:
        """The branch nodes on the way from the start to the goal, in order."""
        found, node = [], self.start
        while node != self.goal:
            if len(self.branches(node)) > 1:
                found.append(node)
            node = self.right(node)[0]
        return found

    def arm(self, branch: str) -> list[str]:
        """From a branch on, up to where it ends or branches again."""
        nodes = [branch]
        while len(following := self.branches(nodes[-1])) == 1:
            nodes += following
        return nodes

    def paths(self) -> set[tuple[str, ...]]:
        """Every path from the start to the goal."""
        done: set[tuple[str, ...]] = set()
        open_paths: list[tuple[str, ...]] = [(self.start,)]
        while open_paths:
            path = open_paths.pop()
            if path[-1] == self.goal:
                done.add(path)
            open_paths += [(*path, branch) for branch in self.right(path[-1])]
        return done


def seen(prompt: str) -> Seen:
    words = prompt.split()
    assert (words[0], words[-5], words[-3], words[-1]) == ("edges:", "start:", "goal:", "path:")
    listed = words[1:-5]
    pairs = [edge.replace("!", ">").split(">") for edge in listed]
    marked = tuple(i for i, edge in enumerate(listed) if "!" in edge)
    return Seen(tuple((tail, head) for tail, head in pairs), marked, words[-4], words[-2])


def from_example(example: Example) -> Problem:
    """The problem of an example, from its prompt alone."""
    prompt = seen(example.prompt)
    facts = {
        "start": prompt.start,
        "target": prompt.goal,
        "edges": [list(edge) for edge in prompt.edges],
        "marked": [list(prompt.edges[i]) for i in prompt.marked],
    }
    return Problem(example.problem_id, "train", example.subset, example.prompt, facts)


def graphs(problems: Iterable[Example | Problem]) -> set[frozenset[Edge]]:
    return {seen(problem.prompt).graph for problem in problems}


def drawn(shape: Shape, count: int, density: float = 1.0, seed: int = 0) -> list[Seen]:
    """The problems of forward training data."""
    config = DatasetConfig(examples=count, fork_density=density, direction=1.0, seed=seed)
    return [seen(example.prompt) for example in shaped(shape).sft_examples(config)]


def rank(name: str) -> int:
    return int(name[1:] or 0) * 26 + ord(name[0])


Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """What many prompts show at one of their forks, as arrays of shape (prompts, branches), the
    branches in the order they are listed, or (prompts, 1) where it is one thing of the prompt.

    Places are indices in the listing. `valid` is the answer, which no policy may read.
    """

    place: Ints
    onward: Ints  # of the edge that leads on from the branch
    name: Ints
    next_name: Ints  # of the node after the branch
    mentions: Ints  # how often the prompt names the branch
    marked: Bools
    beside_goal: Bools  # one edge short of the goal
    first_goal_edge: Ints
    last_goal_edge: Ints
    first_start_edge: Ints
    own_entry: Ints  # of the first listed edge into the fork; -1 at the start
    nearest_mark: Ints  # places to the nearest marked edge; 0 where nothing is marked
    goal: Ints
    start: Ints
    own: Ints
    edges: int
    valid: Bools

    def hits(self, scores: NDArray[np.floating] | Ints | Bools) -> int:
        """How often the branch of the lowest score is right; of equals the first listed."""
        best = np.argmin(np.asarray(scores, dtype=np.float64), axis=1)
        return int(self.valid[np.arange(len(best)), best].sum())


def view(prompts: list[Seen], at: int) -> View:
    """The fork number `at` of every prompt."""
    rows = [_row(prompt, prompt.forks[at]) for prompt in prompts]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return View(edges=len(prompts[0].edges), **columns)


def _row(prompt: Seen, node: str) -> dict[str, list[int] | list[bool]]:
    places = prompt.leaving[node]
    branches = prompt.branches(node)
    words = [name for edge in prompt.edges for name in edge]
    into_goal = prompt.entering[prompt.goal]
    return {
        "place": places,
        "onward": [prompt.leaving[branch][0] for branch in branches],
        "name": [rank(branch) for branch in branches],
        "next_name": [rank(prompt.branches(branch)[0]) for branch in branches],
        "mentions": [words.count(branch) for branch in branches],
        "marked": [place in prompt.marked for place in places],
        "beside_goal": [(branch, prompt.goal) in prompt.edges for branch in branches],
        "first_goal_edge": [into_goal[0]],
        "last_goal_edge": [into_goal[-1]],
        "first_start_edge": [prompt.leaving[prompt.start][0]],
        "own_entry": [prompt.entering.get(node, [-1])[0]],
        "nearest_mark": [
            min((abs(mark - place) for mark in prompt.marked), default=0) for place in places
        ],
        "goal": [rank(prompt.goal)],
        "start": [rank(prompt.start)],
        "own": [rank(node)],
        "valid": [branch in prompt.useful for branch in branches],
    }
