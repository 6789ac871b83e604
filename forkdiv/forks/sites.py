"""The nouns of finding forks: a decision point in a response, what one way found, positions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.records import Example

END = ""  # the branch that ends the response


@dataclass(frozen=True, slots=True)
class Site:
    """One decision point in one response of the data.

    `row` is the index of the example, `at` the offset in its response of the first character
    that the choice decides, `taken` the branch it takes. `fork` is the same for all responses
    to one prompt that come here by the same beginning; `shown` counts the branches they take.
    `branches` are the plausible ones that this way knows: all of the task's, those shown, or
    the model's likely tokens, whose probabilities are `chances`. `valid` are those known to be
    right; `signed` says whether something in the prompt tells them. `entropy` is in nats.
    Where a way does not know, it says None. The branch that ends the response is `END`.
    """

    row: int
    problem_id: str
    fork: str
    at: int
    taken: str
    shown: Mapping[str, int]
    branches: tuple[str, ...]
    valid: tuple[str, ...] | None = None
    signed: bool | None = None
    entropy: float | None = None
    chances: tuple[float, ...] | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """What the data could show here: the right branches where they are known, else the
        model's; nothing where only shown ones are known, or where there is no second one."""
        known = self.valid if self.valid is not None else self.branches if self.chances else ()
        return known if len(known) > 1 else ()

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(branch for branch in self.wanted if branch not in self.shown)

    @property
    def coverage(self) -> float | None:
        """The share of `wanted` that is shown; None where it is undefined."""
        return 1 - len(self.missing) / len(self.wanted) if self.wanted else None

    @property
    def under_covered(self) -> bool:
        return bool(self.missing)

    @property
    def departures(self) -> frozenset[int]:
        """Offsets of the characters that decide: where the choice begins, and where another
        branch leaves the one taken."""
        others = (branch for branch in self.branches if branch != self.taken)
        return frozenset({self.at, *(self.at + _shared(self.taken, other) for other in others)})


def _shared(one: str, other: str) -> int:
    """Length of the beginning that two texts share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other)))  # noqa: B905


@dataclass(frozen=True)
class Found:
    """What one way found; `read` are the rows it can say something about."""

    way: str
    sites: list[Site]
    read: frozenset[int]


@dataclass(frozen=True)
class Positions:
    """Every response position a model read, end tokens included, in the order of the rows.

    Arrays of equal length: the example, the token's characters [start, end) of the response
    (start = end = its length for the end token) and the entropy of this token's
    distribution, in nats.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    entropy: NDArray[np.float64]

    def of(self, row: int) -> slice:
        """Where the positions of a row are."""
        first, last = np.searchsorted(self.row, [row, row + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True)
class ModelFound(Found):
    """With all positions and the entropy above which one is a site. `too_long` examples do not
    fit the model's context and were not read; `unknown` tokens are not in its vocabulary."""

    positions: Positions
    threshold: float
    too_long: int
    unknown: int

    @property
    def flagged(self) -> NDArray[np.bool_]:
        return self.positions.entropy > self.threshold


def problem_groups(examples: Sequence[Example]) -> list[list[int]]:
    """The rows of each problem, in the order they come; another prompt is another problem."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        rows[example.problem_id, example.prompt].append(row)
    return list(rows.values())


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of a response (a word, a token), its text and where that begins."""

    unit: Hashable
    text: str
    at: int


def meetings(steps: Mapping[int, Sequence[Step]]) -> Iterator[tuple[int, list[int]]]:
    """Every point of the prefix tree with a next step: its depth, and the rows that come to it
    by the same steps."""
    open_points = [(0, list(steps))]
    while open_points:
        depth, rows = open_points.pop()
        yield depth, rows
        parts: dict[Hashable, list[int]] = defaultdict(list)
        for row in rows:
            if depth + 1 < len(steps[row]):
                parts[steps[row][depth].unit].append(row)
        open_points += [(depth + 1, part) for part in parts.values()]


def fork_id(example: Example, prefix: str) -> str:
    what = json.dumps([example.problem_id, example.prompt, prefix])
    return blake2b(what.encode(), digest_size=8).hexdigest()
