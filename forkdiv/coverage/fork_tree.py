"""All correct responses to one problem as a tree of tokens, with the forks marked in it.

The probability of a branch is that of its tokens after the tokens before the fork, in the
tokenizer's own way of writing the response. That is exact where a token never spans two words
and a word has one way of being written, as word-level tokenizers have it. Elsewhere two limits
hold. Other ways of writing a branch in tokens are not counted, as exact probabilities of whole
responses do not count them. And of two branches of which one begins the other (`1` and `12`),
the shorter has what begins like it and does not go on to the longer (so `13` too).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.records import Fork
from forkdiv.coverage.fork_summary import ForkNode

Path = tuple[int, ...]  # tokens of a response from its first one on
# of a text: its tokens, and where in its characters each of them ends
Tokens = Callable[[str], tuple[Sequence[int], Sequence[int]]]
Logs = Mapping[Path, float]


@dataclass(frozen=True)
class Marked:
    """A fork in the tree. After `context` a response takes one of the branches, each of which
    has one way of being written, or several where what follows it changes its tokens."""

    prefix: str
    depth: int
    fork: Fork
    context: Path
    ways: Mapping[str, frozenset[Path]]

    @cached_property
    def inside(self) -> frozenset[Path]:
        """Every path that ends in a token of a branch."""
        start = len(self.context) + 1
        ways = [way for several in self.ways.values() for way in several]
        return frozenset(way[:i] for way in ways for i in range(start, len(way) + 1))

    def chance(self, branch: str, logs: Logs) -> float:
        total = 0.0
        for way in self.ways[branch]:
            taken = sum(logs[way[:i]] for i in range(len(self.context) + 1, len(way) + 1))
            longer = sum(math.exp(logs[p]) for p in self.inside if p[:-1] == way)
            total += math.exp(taken) * max(1.0 - longer, 0.0)
        return total


@dataclass(frozen=True)
class ForkTree:
    """`responses` are whole, with their end token."""

    responses: frozenset[Path]
    forks: tuple[Marked, ...]

    @classmethod
    def grown(
        cls, solutions: Sequence[tuple[str, Sequence[Fork]]], tokens: Tokens, end: int
    ) -> ForkTree:
        """Of every correct response with its forks. Responses with one beginning share a fork.

        Raises UserError where the tokenizer writes two branches alike, InvalidResult where the
        forks of the responses contradict one another.
        """
        met: dict[str, tuple[int, Fork, list[str]]] = {}
        for text, forks in solutions:
            for depth, fork in enumerate(forks, 1):
                known = met.setdefault(text[: fork.at], (depth, fork, []))
                if known[:2] != (depth, fork):
                    raise InvalidResult(
                        f"two correct responses beginning {text[: fork.at]!r} have different "
                        f"forks there: {known[:2]} and {(depth, fork)}"
                    )
                known[2].append(text)
        responses = frozenset((*tokens(text)[0], end) for text, _ in solutions)
        marked = (_marked(prefix, *known, tokens) for prefix, known in met.items())
        return cls(responses, tuple(marked))

    @cached_property
    def steps(self) -> list[Path]:
        """The path to every token of the tree, each after the path it goes on from."""
        ways = {way for fork in self.forks for several in fork.ways.values() for way in several}
        whole = self.responses | ways
        return sorted({path[:i] for path in whole for i in range(1, len(path) + 1)})

    @cached_property
    def runs(self) -> list[Path]:
        """The fewest paths along which every step is predicted."""
        parents = {step[:-1] for step in self.steps}
        return sorted(parents - {parent[:-1] for parent in parents if parent})

    def read(self, problem: int, logs: Logs) -> tuple[float, float, list[ForkNode]]:
        """p, q and the forks, given each step's log-probability after the path before it."""
        kept = self._kept(logs)
        p = sum(math.exp(sum(_along(path, logs))) for path in self.responses)
        q = sum(math.prod(_along(path, kept)) for path in self.responses)
        kinds = defaultdict(list)
        for fork in self.forks:
            kinds[fork.depth, fork.fork.signed].append(fork)
        nodes = []
        for (depth, signed), forks in kinds.items():
            reached = [sum(_along(fork.context, logs)) for fork in forks]
            for fork, weight in zip(forks, _shares(reached), strict=True):
                branches = fork.fork.branches
                chances = tuple(fork.chance(branch, logs) for branch in branches)
                valid = fork.fork.valid
                nodes.append(
                    ForkNode(problem, fork.prefix, depth, signed, weight, branches, valid, chances)
                )
        return min(p, 1.0), min(q, 1.0), nodes

    def _kept(self, logs: Logs) -> dict[Path, float]:
        """Each step's probability were everything but the forks certain: the model's own inside
        a branch; elsewhere what is left, dealt over the steps that a correct response may take
        as the model deals it."""
        inside = frozenset[Path]().union(*(fork.inside for fork in self.forks))
        following = defaultdict(list)
        for step in self.steps:
            following[step[:-1]].append(step)
        kept: dict[Path, float] = {}
        for steps in following.values():
            chosen = {step: math.exp(logs[step]) for step in steps if step in inside}
            free = [step for step in steps if step not in inside]
            left = max(1.0 - sum(chosen.values()), 0.0)
            dealt = _shares([logs[step] for step in free])
            kept |= chosen | {s: left * share for s, share in zip(free, dealt, strict=True)}
        return kept


def _marked(prefix: str, depth: int, fork: Fork, texts: Sequence[str], tokens: Tokens) -> Marked:
    told: dict[str, list[str]] = {branch: [] for branch in fork.branches}
    for text in texts:
        told[_taken(text, fork)].append(text)
    # a wrong branch goes on as a right one does: a token may depend on what follows it
    rest = texts[0][fork.at + len(_taken(texts[0], fork)) :]
    heads, ways = [], {}
    for branch, known in told.items():
        found = set()
        for text in known or [prefix + branch + rest]:
            path, ends = tokens(text)
            heads.append(tuple(path[: bisect_right(ends, fork.at)]))
            found.add(tuple(path[: bisect_left(ends, fork.at + len(branch)) + 1]))
        ways[branch] = frozenset(found)
    context = _common(heads)
    every = [way for several in ways.values() for way in several]
    if len(set(every)) < len(every) or any(len(way) <= len(context) for way in every):
        raise refuse(
            "the tokenizer does not tell the branches of a fork apart",
            f"{', '.join(map(repr, fork.branches))} after {prefix!r}",
            "a tokenizer that knows the task's words",
            "use a checkpoint that was trained on this task",
        )
    return Marked(prefix, depth, fork, context, ways)


def _common(paths: Sequence[Path]) -> Path:
    """The tokens that all begin with: what the first and the last in order share."""
    first, last = min(paths), max(paths)
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return tuple(token for token, _ in alike)


def _taken(text: str, fork: Fork) -> str:
    """The branch that a correct response takes: of several that fit, the longest whole word."""
    rest = text[fork.at :]
    fitting = [branch for branch in fork.valid if branch and rest.startswith(branch)]
    whole = [b for b in fitting if not (b[-1].isalnum() and rest[len(b) : len(b) + 1].isalnum())]
    if not whole:
        raise InvalidResult(
            f"the correct response {text!r} takes none of the valid branches {fork.valid} "
            f"at character {fork.at}"
        )
    return max(whole, key=len)


def _along(path: Path, values: Mapping[Path, float]) -> Iterable[float]:
    return (values[path[:i]] for i in range(1, len(path) + 1))


def _shares(logs: Sequence[float]) -> list[float]:
    """Each one's share of what all have together; equal ones where none has anything."""
    most = max(logs, default=0.0)
    parts = [math.exp(log - most) if most > -math.inf else 1.0 for log in logs]
    return [part / sum(parts) for part in parts]
