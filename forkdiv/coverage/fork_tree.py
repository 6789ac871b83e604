"""All correct responses to one problem as a token tree, with its forks.

The probability of a branch is that of its tokens after the tokens before the fork, in the
canonical encoding of the response. It is exact for word-level tokenizers: no token spans two words
and each word has one encoding. For other tokenizers there are two limitations. Other encodings of
a branch are not counted (exact probabilities of whole responses do not count them either). And if
one branch is a prefix of another (`1` and `12`), the shorter branch gets the probability of
everything that begins with it except the longer branch (also that of `13`).
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

Path = tuple[int, ...]  # the first tokens of a response
# maps a text to its tokens and the character offset at which each of them ends
Tokens = Callable[[str], tuple[Sequence[int], Sequence[int]]]
Logs = Mapping[Path, float]


@dataclass(frozen=True)
class TreeFork:
    """A fork in the tree, after the tokens `context`.

    `encodings` has the token paths of each branch, including the context: several if the tokens of
    a branch depend on the text after it.
    """

    prefix: str
    depth: int
    fork: Fork
    context: Path
    encodings: Mapping[str, frozenset[Path]]

    @cached_property
    def branch_steps(self) -> frozenset[Path]:
        """Returns every path that ends in a token of a branch."""
        start = len(self.context) + 1
        paths = [path for encodings in self.encodings.values() for path in encodings]
        return frozenset(path[:i] for path in paths for i in range(start, len(path) + 1))

    def probability(self, branch: str, logs: Logs) -> float:
        total = 0.0
        for path in self.encodings[branch]:
            log_taken = sum(logs[path[:i]] for i in range(len(self.context) + 1, len(path) + 1))
            longer = sum(math.exp(logs[p]) for p in self.branch_steps if p[:-1] == path)
            total += math.exp(log_taken) * max(1.0 - longer, 0.0)
        return total


@dataclass(frozen=True)
class ForkTree:
    """`responses` are complete token paths with their end token."""

    responses: frozenset[Path]
    forks: tuple[TreeFork, ...]

    @classmethod
    def from_solutions(
        cls, solutions: Sequence[tuple[str, Sequence[Fork]]], tokens: Tokens, ends: Sequence[int]
    ) -> ForkTree:
        """Builds the tree from every correct response with its forks. Responses with the same
        prefix share a fork. A response may end with any of the tokens `ends`, which are different
        paths.

        Raises UserError if the tokenizer encodes two branches with the same tokens, InvalidResult
        if the forks of the responses contradict each other.
        """
        forks_by_prefix: dict[str, tuple[int, Fork, list[str]]] = {}
        for text, forks in solutions:
            for depth, fork in enumerate(forks, 1):
                entry = forks_by_prefix.setdefault(text[: fork.at], (depth, fork, []))
                if entry[:2] != (depth, fork):
                    raise InvalidResult(
                        f"two correct responses have different forks after {text[: fork.at]!r}: "
                        f"{entry[:2]} and {(depth, fork)}"
                    )
                entry[2].append(text)
        responses = frozenset((*tokens(text)[0], end) for text, _ in solutions for end in ends)
        tree_forks = (
            _tree_fork(prefix, *entry, tokens) for prefix, entry in forks_by_prefix.items()
        )
        return cls(responses, tuple(tree_forks))

    @cached_property
    def steps(self) -> list[Path]:
        """Returns the path to every token of the tree, each after its parent path."""
        branch_paths = {
            path
            for fork in self.forks
            for encodings in fork.encodings.values()
            for path in encodings
        }
        paths = self.responses | branch_paths
        return sorted({path[:i] for path in paths for i in range(1, len(path) + 1)})

    @cached_property
    def sequences(self) -> list[Path]:
        """Returns the sequences to run through the model: the fewest paths that together predict
        every step."""
        parents = {step[:-1] for step in self.steps}
        return sorted(parents - {parent[:-1] for parent in parents if parent})

    def evaluate(self, problem: int, logs: Logs) -> tuple[float, float, list[ForkNode]]:
        """Returns p, q and the forks, given the log-probability of each step after its parent."""
        certain_elsewhere = self._with_certain_steps(logs)
        p = sum(math.exp(sum(_values_along(path, logs))) for path in self.responses)
        q = sum(math.prod(_values_along(path, certain_elsewhere)) for path in self.responses)
        by_kind = defaultdict(list)
        for fork in self.forks:
            by_kind[fork.depth, fork.fork.signed].append(fork)
        nodes = []
        for (depth, signed), forks in by_kind.items():
            reached = [sum(_values_along(fork.context, logs)) for fork in forks]
            for fork, weight in zip(forks, _shares(reached), strict=True):
                branches = fork.fork.branches
                chances = tuple(fork.probability(branch, logs) for branch in branches)
                valid = fork.fork.valid
                nodes.append(
                    ForkNode(problem, fork.prefix, depth, signed, weight, branches, valid, chances)
                )
        return min(p, 1.0), min(q, 1.0), nodes

    def _with_certain_steps(self, logs: Logs) -> dict[Path, float]:
        """Returns the probability of each step if all tokens outside the forks were certain.

        Branch steps keep the model's probability. The remaining probability is divided over the
        other steps of correct responses in proportion to the model's probabilities.
        """
        branch_steps = frozenset[Path]().union(*(fork.branch_steps for fork in self.forks))
        next_steps = defaultdict(list)
        for step in self.steps:
            next_steps[step[:-1]].append(step)
        probabilities: dict[Path, float] = {}
        for steps in next_steps.values():
            chosen = {step: math.exp(logs[step]) for step in steps if step in branch_steps}
            free = [step for step in steps if step not in branch_steps]
            remaining = max(1.0 - sum(chosen.values()), 0.0)
            shares = _shares([logs[step] for step in free])
            probabilities |= chosen | {
                s: remaining * share for s, share in zip(free, shares, strict=True)
            }
        return probabilities


def _tree_fork(
    prefix: str, depth: int, fork: Fork, texts: Sequence[str], tokens: Tokens
) -> TreeFork:
    texts_by_branch: dict[str, list[str]] = {branch: [] for branch in fork.branches}
    for text in texts:
        texts_by_branch[_branch_taken(text, fork)].append(text)
    # a wrong branch gets the continuation of a right one: a token may depend on what follows it
    continuation = texts[0][fork.at + len(_branch_taken(texts[0], fork)) :]
    heads, encodings_by_branch = [], {}
    for branch, branch_texts in texts_by_branch.items():
        paths = set()
        for text in branch_texts or [prefix + branch + continuation]:
            path, ends = tokens(text)
            heads.append(tuple(path[: bisect_right(ends, fork.at)]))
            paths.add(tuple(path[: bisect_left(ends, fork.at + len(branch)) + 1]))
        encodings_by_branch[branch] = frozenset(paths)
    context = _common_prefix(heads)
    encodings = [path for paths in encodings_by_branch.values() for path in paths]
    if len(set(encodings)) < len(encodings) or any(len(path) <= len(context) for path in encodings):
        raise refuse(
            "the tokenizer encodes branches of a fork with the same tokens",
            f"{', '.join(map(repr, fork.branches))} after {prefix!r}",
            "a tokenizer whose vocabulary has the task's words",
            "use a checkpoint that was trained on this task",
        )
    return TreeFork(prefix, depth, fork, context, encodings_by_branch)


def _common_prefix(paths: Sequence[Path]) -> Path:
    """Returns the longest common prefix: that of the first and the last path in sorted order."""
    first, last = min(paths), max(paths)
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return tuple(token for token, _ in shared)


def _branch_taken(text: str, fork: Fork) -> str:
    """Returns the branch that a correct response takes: the longest match that is a whole word."""
    rest = text[fork.at :]
    fitting = [branch for branch in fork.valid if branch and rest.startswith(branch)]
    whole_words = [
        b for b in fitting if not (b[-1].isalnum() and rest[len(b) : len(b) + 1].isalnum())
    ]
    if not whole_words:
        raise InvalidResult(
            f"the correct response {text!r} takes none of the valid branches {fork.valid} "
            f"at character {fork.at}"
        )
    return max(whole_words, key=len)


def _values_along(path: Path, values: Mapping[Path, float]) -> Iterable[float]:
    return (values[path[:i]] for i in range(1, len(path) + 1))


def _shares(logs: Sequence[float]) -> list[float]:
    """Returns the share of each value in their sum; equal shares if all are 0 (log -inf)."""
    largest = max(logs, default=0.0)
    parts = [math.exp(log - largest) if largest > -math.inf else 1.0 for log in logs]
    return [part / sum(parts) for part in parts]
