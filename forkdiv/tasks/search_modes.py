"""Search modes: a graph problem solved by the direct path, or by trying arms with backtracking.

A problem; its fork has no sign:

    edges: k>c m>j h>e a>k e>p a>m c>f a>h j>b start: a goal: f path:

Correct responses; the first token chooses the mode:

    To a k c f                                  linear: must guess the arm
    Okay a h e p back a m j b back a k c f      backtracking: leaves an arm that ends elsewhere

Each mode has two openers, optionally followed by `go`: four phrasings. A backtracking response
tries complete arms, each at most once, and ends when it reaches the goal. So all correct responses
can be listed, and the effect of a mode is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, permutations
from random import Random
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.records import Example, Fork, Outcome, Problem, Trace, Verdict
from forkdiv.tasks import modes
from forkdiv.tasks.base import Task, derive, even_count, example
from forkdiv.tasks.graphs import Graph, GraphSpace

LINEAR, BACKTRACKING = "linear", "backtracking"
OPENERS = {LINEAR: ("To", "Let"), BACKTRACKING: ("Okay", "Alright")}
GO, BACK = "go", "back"
MODE_OF = {opener: mode for mode, openers in OPENERS.items() for opener in openers}

OTHER_END = "ends in another node"
BROKEN_PATH = "uses an edge that does not exist"
TORN_ARM = "leaves an arm half way, or tries one again"


class SearchModesConfig(TaskConfig):
    """Graph branching told in two modes, chosen by the first token: linear, straight to the
    target, or backtracking, arm by arm until the target is met."""

    kind: Literal["search_modes"] = "search_modes"
    degree: int = Field(3, ge=2, le=16, description="Arms of the branch node.")
    length: int = Field(3, ge=3, le=16, description="Edges of each arm.")
    names: int = Field(16, ge=7, le=2600, description="Node names to draw from.")

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        needed = self.degree * self.length + 1
        if self.names < needed:
            raise ValueError(
                f"names={self.names} is too few for degree={self.degree} and "
                f"length={self.length}; allowed: at least {needed}; raise task.names"
            )
        return self


class SearchModes(Task):
    """The task; the module docstring shows a problem."""

    config_class = SearchModesConfig
    config: SearchModesConfig

    knobs = modes.KNOBS
    enumerates = True

    def __init__(self, config: SearchModesConfig) -> None:
        super().__init__(config)
        self.sizes = {"train": 800, "validation": 200, "test": 200}
        self._space = GraphSpace(config.degree, config.length, 1, 1, config.names)
        self._names = frozenset(self._space.node_names)
        # with a larger degree, a problem has thousands of correct responses
        self.exhaustive = config.degree <= 4

    def vocabulary(self) -> list[str]:
        labels = ["edges:", "start:", "goal:", "path:", ">", GO, BACK]
        return [*labels, *MODE_OF, *self._space.node_names]

    def longest_response(self) -> int:
        arms = self.config.degree * (self.config.length + 1)
        return 2 + arms + (self.config.degree - 1) + 1

    def available(self, split: str) -> int:
        return self._space.available(split)

    def heldout(self, split: str, count: int | None = None) -> list[Problem]:
        requested = even_count(self, split, count)
        graphs = self._space.draw(split, requested, self.config.seed)
        return [_problem(graph, split, derive("listing", split, graph.key)) for graph in graphs]

    def sft_examples(self, config: DatasetConfig) -> Iterator[Example]:
        """The same problems for both structures."""
        count = modes.problems_of(config, self.examples(config))
        plan = modes.modes_and_phrasings(config, count, (LINEAR, BACKTRACKING))
        graphs = self._space.draw("train", count, config.seed)
        for graph, solutions in zip(graphs, plan, strict=True):
            problem = _problem(graph, "train", derive("listing", config.seed, graph.key))
            random = derive("search", config.seed, graph.key)
            for mode, phrasing in solutions:
                words = [*_opening(mode, phrasing), *_solution(graph, mode, random)]
                trace = Trace(" ".join(words), mode)
                yield example(problem, trace, self.forks(problem, trace.text))

    def walk_examples(self, config: PretrainConfig, separator: str) -> Iterator[Example]:
        """Walks in either mode that end at any node: they ignore the target and the ends of
        arms."""
        for graph in self._space.draw("pretrain", config.examples, config.seed):
            random = derive("walks", config.seed, graph.key)
            problem = _problem(graph, "pretrain", random)
            walks = [_walk(graph, random) for _ in range(config.walks)]
            text = separator.join(" ".join(walk) for walk in walks)
            yield Example(problem.id, problem.prompt, text, problem.subset, "", 0, 0, "{}")

    def solutions(self, problem: Problem) -> list[Trace]:
        """All correct responses: every phrasing, and every order of trying wrong arms."""
        arms = _arms(problem.facts)
        right = next(arm for arm in arms if arm[-1] == problem.facts["target"])
        wrong = [arm for arm in arms if arm is not right]
        traces = []
        for phrasing in range(modes.PHRASINGS):
            traces.append(Trace(" ".join([*_opening(LINEAR, phrasing), *right]), LINEAR))
            opening = _opening(BACKTRACKING, phrasing)
            for tried in range(len(wrong) + 1):
                for order in permutations(wrong, tried):
                    words = [*opening, *_joined([*order, right])]
                    traces.append(Trace(" ".join(words), BACKTRACKING))
        return traces

    def forks(self, problem: Problem, text: str) -> list[Fork]:
        """The choice of the mode, whose branches are all valid, and each choice of an arm. In
        linear mode only the right arm is valid; with backtracking, any arm not yet tried."""
        words = text.split()
        mode = MODE_OF.get(words[0]) if words else None
        if mode is None:
            return []
        start = problem.facts["start"]
        firsts = {arm[1]: arm[-1] for arm in _arms(problem.facts)}
        forks = [Fork(0, tuple(sorted(MODE_OF)), tuple(sorted(MODE_OF)), False)]
        at, tried = 0, set[str]()
        for word, following in pairwise(words):
            at = text.index(following, text.index(word, at) + len(word))
            if word != start or following not in firsts:
                continue
            left = sorted(set(firsts) - tried)
            right = [first for first in left if firsts[first] == problem.facts["target"]]
            valid = tuple(right if mode == LINEAR else left)
            if len(left) > 1:
                forks.append(Fork(at, tuple(left), valid, False))
            tried.add(following)
        return forks

    def verify(self, problem: Problem, text: str) -> Verdict:
        """A response is correct if it starts with the opener of a mode, follows that mode and ends
        at the goal."""
        words = text.split()
        mode = MODE_OF.get(words[0]) if words else None
        if mode is None:
            return Verdict(Outcome.UNPARSABLE, None, "opens with no mode")
        rest = words[2:] if words[1:2] == [GO] else words[1:]
        tries = _split(rest)
        if any(not nodes or not self._names.issuperset(nodes) for nodes in tries):
            return Verdict(Outcome.UNPARSABLE, None, "not a list of node names", mode)
        answer = " ".join(tries[-1])
        arms = [tuple(arm) for arm in _arms(problem.facts)]
        edges = {edge for arm in arms for edge in pairwise(arm)}
        *before, last = [tuple(nodes) for nodes in tries]
        if any(not edges.issuperset(pairwise(nodes)) for nodes in tries):
            return Verdict(Outcome.WRONG, answer, BROKEN_PATH, mode)
        if last not in arms or last[-1] != problem.facts["target"]:
            return Verdict(Outcome.WRONG, answer, OTHER_END, mode)
        allowed = 0 if mode == LINEAR else len(arms) - 1
        complete = all(nodes in arms and nodes != last for nodes in before)
        if len(before) > allowed or not complete or len(set(before)) < len(before):
            return Verdict(Outcome.WRONG, answer, TORN_ARM, mode)
        return Verdict(Outcome.CORRECT, answer, "", mode)


def _problem(graph: Graph, split: str, random: Random) -> Problem:
    edges = graph.edges()
    listed = random.sample(edges, len(edges))
    listing = " ".join(f"{a}>{b}" for a, b in listed)
    prompt = f"edges: {listing} start: {graph.root} goal: {graph.target} path:"
    facts = {
        "start": graph.root,
        "target": graph.target,
        "edges": [list(edge) for edge in listed],
    }
    return Problem(f"{graph.key}-{graph.target}", split, "unsigned", prompt, facts)


def _arms(facts: Any) -> list[list[str]]:
    """Returns all arms from the start to their ends, in the order of their first edges."""
    start = facts["start"]
    onward = {a: b for a, b in facts["edges"] if a != start}
    arms = []
    for a, b in facts["edges"]:
        if a == start:
            arm = [start, b]
            while arm[-1] in onward:
                arm.append(onward[arm[-1]])
            arms.append(arm)
    return arms


def _opening(mode: str, phrasing: int) -> list[str]:
    opener = OPENERS[mode][phrasing % 2]
    return [opener, GO] if phrasing >= 2 else [opener]


def _solution(graph: Graph, mode: str, random: Random) -> list[str]:
    (stage,) = graph.stages
    right = [graph.root, *stage.valid[0], stage.exit]
    if mode == LINEAR:
        return right
    wrong = [[graph.root, *arm] for arm in stage.other]
    tried = random.sample(wrong, random.randint(0, len(wrong)))
    return _joined([*tried, right])


def _walk(graph: Graph, random: Random) -> list[str]:
    """Returns a walk of random mode and phrasing; its last arm ends at a random edge."""
    mode = random.choice((LINEAR, BACKTRACKING))
    arms = [list(path) for path in graph.stages[0].paths()]
    tried = random.sample(arms, 1 if mode == LINEAR else random.randint(1, len(arms)))
    tried[-1] = tried[-1][: random.randint(2, len(tried[-1]))]
    return [*_opening(mode, random.randrange(modes.PHRASINGS)), *_joined(tried)]


def _joined(arms: list[list[str]]) -> list[str]:
    words = list(arms[0])
    for arm in arms[1:]:
        words += [BACK, *arm]
    return words


def _split(words: list[str]) -> list[list[str]]:
    tries: list[list[str]] = [[]]
    for word in words:
        if word == BACK:
            tries.append([])
        else:
            tries[-1].append(word)
    return tries
