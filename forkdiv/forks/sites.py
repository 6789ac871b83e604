"""Data classes for fork finding: a decision point (site), the sites of one way, positions."""

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
    that depends on the choice, `taken` the branch that the response takes. `fork` is the same for
    all responses to one prompt with the same prefix; `shown` counts the branches they take.
    `branches` are the plausible branches that the way knows: those of the task, those shown in the
    data, or the model's likely tokens with probabilities `chances`. `valid` are the branches known
    to be right; `signed` is true if the prompt indicates them. `entropy` is in nats. Values that a
    way does not know are None. The branch that ends the response is `END`.
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
    def expected(self) -> tuple[str, ...]:
        """Returns the branches that the data should show: the right ones if known, else those of
        the model. Empty if only shown branches are known, or if there is only one."""
        known = self.valid if self.valid is not None else self.branches if self.chances else ()
        return known if len(known) > 1 else ()

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(branch for branch in self.expected if branch not in self.shown)

    @property
    def coverage(self) -> float | None:
        """Returns the share of `expected` branches that are shown; None if there are none."""
        return 1 - len(self.missing) / len(self.expected) if self.expected else None

    @property
    def under_covered(self) -> bool:
        return bool(self.missing)

    @property
    def deciding_offsets(self) -> frozenset[int]:
        """Returns the offsets of the characters that decide: the start of the choice, and the
        first character at which another branch differs from the one taken."""
        other_branches = (branch for branch in self.branches if branch != self.taken)
        return frozenset(
            {
                self.at,
                *(self.at + _common_prefix_length(self.taken, other) for other in other_branches),
            }
        )


def _common_prefix_length(first: str, second: str) -> int:
    """Returns the length of the common prefix of two texts."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second)))  # noqa: B905


@dataclass(frozen=True)
class SiteSet:
    """The sites that one way found; `rows_read` are the rows it could examine."""

    way: str
    sites: list[Site]
    rows_read: frozenset[int]


@dataclass(frozen=True)
class Positions:
    """Every response position that a model read, including end tokens, in the order of the rows.

    Arrays of equal length: the row of the example, the character range [start, end) of the token
    in the response (both the length of the response for the end token), and the entropy of the
    next-token distribution, in nats.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    entropy: NDArray[np.float64]

    def slice_of(self, row: int) -> slice:
        """Returns the slice of the positions of a row."""
        first, last = np.searchsorted(self.row, [row, row + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True)
class ModelSiteSet(SiteSet):
    """The sites of the model way, with all positions and the entropy threshold.

    `too_long` counts examples that exceed the model's context and were not read; `unknown` counts
    tokens that are not in its vocabulary.
    """

    positions: Positions
    threshold: float
    too_long: int
    unknown: int

    @property
    def flagged(self) -> NDArray[np.bool_]:
        return self.positions.entropy > self.threshold


def problem_groups(examples: Sequence[Example]) -> list[list[int]]:
    """Returns the rows of each problem, in order. A different prompt is a different problem."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        rows[example.problem_id, example.prompt].append(row)
    return list(rows.values())


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of a response (a word or a token), its text and the offset of the text."""

    unit: Hashable
    text: str
    at: int


def shared_prefixes(steps: Mapping[int, Sequence[Step]]) -> Iterator[tuple[int, list[int]]]:
    """Yields every node of the prefix tree that has a next step: its depth, and the rows with
    that prefix."""
    pending = [(0, list(steps))]
    while pending:
        depth, rows = pending.pop()
        yield depth, rows
        by_unit: dict[Hashable, list[int]] = defaultdict(list)
        for row in rows:
            if depth + 1 < len(steps[row]):
                by_unit[steps[row][depth].unit].append(row)
        pending += [(depth + 1, part) for part in by_unit.values()]


def fork_id(example: Example, prefix: str) -> str:
    key = json.dumps([example.problem_id, example.prompt, prefix])
    return blake2b(key.encode(), digest_size=8).hexdigest()
