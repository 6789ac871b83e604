"""Groups of rows that must stay in the same half of the data, so that no run has seen a row's
answer in another row: equal prompts, equal problem ids (which solutions that synthesis added
share), and near-duplicate prompts.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from random import Random

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.errors import refuse
from forkdiv.core.records import Example

SHINGLE_WORDS = 3
HASHES, BANDS = 64, 16  # 4 hashes a band: pairs of similarity 0.8 are found with 1 − 2e-4
# A shingle in more than this share of the prompts is text of a template, which makes no duplicate.
TEMPLATE_SHARE, TEMPLATE_ROWS = 0.05, 8
MOST_IN_BUCKET = 64  # of more candidates, only neighbours are compared
LARGEST_SHARE = 0.25  # a larger group would make halves of different sizes
WORD = re.compile(r"\w+|[^\w\s]")


def groups(examples: Sequence[Example], near: float) -> NDArray[np.int64]:
    """Returns the group of each row, int64 (rows,), counted from 0 in the order of first rows.

    `near` is the smallest Jaccard similarity of near-duplicates; 1 compares whole prompts only.
    Raises UserError if one group has more than a quarter of the rows.
    """
    union = _Union(len(examples))
    for key in ("problem_id", "prompt"):
        first: dict[str, int] = {}
        for row, example in enumerate(examples):
            union.join(row, first.setdefault(getattr(example, key), row))
    if near < 1:
        distinct = list({example.prompt: row for row, example in enumerate(examples)}.values())
        prompts = [examples[row].prompt for row in distinct]
        for a, b in _near_duplicates(prompts, near):
            union.join(distinct[a], distinct[b])
    roots = [union.root(row) for row in range(len(examples))]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    found = np.array([numbers[root] for root in roots], dtype=np.int64)
    _check_sizes(found)
    return found


def halves(group_of: NDArray[np.int64], seed: int, pair: int) -> NDArray[np.bool_]:
    """Returns which rows are in the first half of a pair, bool (rows,): whole groups, the two
    halves of nearly equal size."""
    sizes = np.bincount(group_of)
    order = list(range(len(sizes)))
    Random(f"learnability/halves/{seed}/{pair}").shuffle(order)
    order.sort(key=lambda group: -sizes[group])  # stable: groups of equal size stay shuffled
    first = np.zeros(len(sizes), dtype=bool)
    rows = [0, 0]
    for number, group in enumerate(order):
        smaller = number % 2 if rows[0] == rows[1] else int(rows[1] < rows[0])
        first[group] = smaller == 0
        rows[smaller] += int(sizes[group])
    return first[group_of]


def _check_sizes(group_of: NDArray[np.int64]) -> None:
    sizes = np.bincount(group_of)
    largest = int(sizes.max())
    if len(sizes) < 2 or largest > LARGEST_SHARE * len(group_of):
        raise refuse(
            "the data cannot be split into halves without near-duplicates on both sides",
            f"{largest:,} of {len(group_of):,} rows have the same problem id, equal prompts or "
            f"prompts that resemble each other ({len(sizes):,} groups)",
            f"groups of at most {LARGEST_SHARE:.0%} of the rows",
            "raise learnability.near towards 1, or give the rows different ids",
        )


class _Union:
    """Sets of rows that are joined step by step."""

    def __init__(self, rows: int) -> None:
        self._parent = list(range(rows))

    def root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        self._parent[max(a, b)] = min(a, b)


def _near_duplicates(prompts: Sequence[str], near: float) -> Iterator[tuple[int, int]]:
    """Yields pairs of prompts of at least this similarity: candidates share a band of MinHash
    values, and are then compared exactly. Of a set of similar prompts it yields enough pairs to
    join them, not all."""
    shingles = _own_shingles(prompts)
    seeds = np.random.default_rng(0).integers(1, 2**61, size=(HASHES, 2), dtype=np.uint64) | 1
    buckets: dict[bytes, list[int]] = defaultdict(list)
    for row, own in enumerate(shingles):
        if not own:
            continue
        values = np.fromiter(own, dtype=np.uint64, count=len(own))
        with np.errstate(over="ignore"):
            hashed = (seeds[:, :1] * values + seeds[:, 1:]) >> np.uint64(7)
        lowest = hashed.min(axis=1).reshape(BANDS, -1)
        for number, band in enumerate(lowest):
            buckets[bytes([number]) + band.tobytes()].append(row)
    for rows in buckets.values():
        for a, b in combinations(rows, 2) if len(rows) <= MOST_IN_BUCKET else pairwise(rows):
            if len(shingles[a] & shingles[b]) >= near * len(shingles[a] | shingles[b]):
                yield a, b


def _own_shingles(prompts: Sequence[str]) -> list[set[int]]:
    """Returns hashes of the word triples of each prompt, without those of a common template."""
    every = [_shingles(prompt) for prompt in prompts]
    counts = Counter(shingle for own in every for shingle in own)
    most = max(TEMPLATE_ROWS, TEMPLATE_SHARE * len(prompts))
    return [{shingle for shingle in own if counts[shingle] <= most} for own in every]


def _shingles(text: str) -> set[int]:
    words = WORD.findall(text.casefold())
    ends = range(max(len(words) - SHINGLE_WORDS, 0) + 1)
    return {_hash(" ".join(words[at : at + SHINGLE_WORDS])) for at in ends}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
