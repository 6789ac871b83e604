"""What a model does at the forks of the held-out problems, and a cell's view of it.

Where coverage went: `fork_pass_at` is pass@k of a model that errs at forks only, by a wrong branch
or by none of them. What it lacks to 1 was lost at the forks, what `pass_at` lacks to it elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from forkdiv.core.results import AtForks, ForkDepth, Interval
from forkdiv.coverage import stats
from forkdiv.coverage.stats import Floats

Kind = tuple[int, bool]  # depth, signed


@dataclass(frozen=True, slots=True)
class ForkNode:
    """One fork of one problem, reached by one beginning of a correct response.

    `problem` is its index, `depth` the fork's number along the response (1 first). `chances` are
    the model's probabilities of the branches after `prefix`; they sum to at most 1. Where the
    problem has several forks of one depth and kind, `weight` is how likely the model comes to
    this one of them; their weights sum to 1.
    """

    problem: int
    prefix: str
    depth: int
    signed: bool
    weight: float
    branches: tuple[str, ...]
    valid: tuple[str, ...]
    chances: tuple[float, ...]

    @property
    def kind(self) -> Kind:
        return self.depth, self.signed


@dataclass(frozen=True)
class ForkProbabilities:
    """Of one checkpoint at one temperature. Float64 of shape (problems,): `p` is the probability
    of a correct response, `q` that of choosing right at all forks were everything between them
    certain; p <= q."""

    p: Floats
    q: Floats
    nodes: tuple[ForkNode, ...]


def view(
    read: ForkProbabilities,
    rows: Sequence[int],
    ks: Sequence[int],
    weights: Floats,
    confidence: float,
) -> AtForks:
    """What a cell holds of the forks, over the problems `rows`.

    `weights` are those of a bootstrap over these problems, of shape (replicates, rows); where
    only some of them have a fork of one kind, each replicate is weighed over those. Entropies
    are in nats, over the branches alone; 0 where the model takes none of them (temperature 0),
    which is the limit.

    Raises ValueError for no rows, one twice, and weights of another shape.
    """
    if not len(rows) or len(set(rows)) < len(rows):
        raise ValueError(f"forks are viewed over distinct problems, one or more, got {list(rows)}")
    if weights.ndim != 2 or weights.shape[1] != len(rows):
        raise ValueError(f"weights need shape (replicates, {len(rows)}), got {weights.shape}")
    place = {row: at for at, row in enumerate(rows)}
    here = [node for node in read.nodes if node.problem in place]
    here.sort(key=lambda node: (node.depth, not node.signed))  # signed first
    depths = []
    for kind, group in groupby(here, key=lambda node: node.kind):
        depths.append(_depth(kind, list(group), place, weights, confidence))
    return AtForks(
        depths=tuple(depths),
        fork_pass_at=_pass_at(read.q[list(rows)], ks),
        pass_at=_pass_at(read.p[list(rows)], ks),
    )


def _depth(
    kind: Kind,
    nodes: Sequence[ForkNode],
    place: dict[int, int],
    weights: Floats,
    confidence: float,
) -> ForkDepth:
    """All forks of one depth and kind."""
    width = max(len(node.branches) for node in nodes)
    chances = np.array([[*n.chances, *[0.0] * (width - len(n.chances))] for n in nodes])
    counts = np.array([len(node.branches) for node in nodes])
    taken = chances.sum(axis=1)
    with np.errstate(invalid="ignore"):
        among = np.where(taken[:, None] > 0, chances / taken[:, None], 0.0)
    values = {
        "branches": counts,
        "accuracy": [_right(node) for node in nodes],
        "chance": [len(node.valid) / len(node.branches) for node in nodes],
        "entropy": entr(among).sum(axis=1),
        "uniform": np.log(counts),
        "off": np.maximum(1 - taken, 0.0),
    }
    table = np.column_stack([*values.values(), -np.sort(-chances, axis=1)])
    at = np.array([place[node.problem] for node in nodes])
    has, table = _by_problem(table * np.array([[node.weight] for node in nodes]), at)
    means = dict(zip(values, table.mean(axis=0).tolist(), strict=False))
    # minimum: weights that sum to 1 but for rounding may pass it by an ulp
    accuracy = _interval(np.minimum(table[:, 1], 1.0), _over(weights, has), confidence)
    return ForkDepth(
        depth=kind[0],
        signed=kind[1],
        problems=len(has),
        shares=tuple(table[:, len(values) :].mean(axis=0).tolist()),
        **{**means, "accuracy": accuracy},
    )


def _right(node: ForkNode) -> float:
    pairs = zip(node.branches, node.chances, strict=True)
    return min(sum(chance for branch, chance in pairs if branch in node.valid), 1.0)


def _by_problem(table: Floats, at: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """The problems that occur in `at`, and the sum of each one's rows."""
    has, group = np.unique(at, return_inverse=True)
    sums = np.zeros((len(has), table.shape[1]))
    np.add.at(sums, group, table)
    return has, sums


def _over(weights: Floats, has: NDArray[np.int64]) -> Floats:
    """The bootstrap's weights of some of its problems, summing to 1 in each replicate; one that
    drew none of them tells nothing about these and is left out."""
    part = weights[:, has]
    total = part.sum(axis=1, keepdims=True)
    return np.asarray((part / np.where(total > 0, total, 1.0))[total[:, 0] > 0])


def _interval(values: Floats, weights: Floats, confidence: float) -> Interval:
    """Limits for the mean over problems of `values`, of shape (problems,)."""
    (found,) = stats.mean_intervals(values[:, None], weights, confidence)
    return Interval(value=found.value, low=found.low, high=found.high)


def _pass_at(p: Floats, ks: Sequence[int]) -> dict[int, float]:
    means = stats.exact_pass_at_k(p[:, None], np.array(ks)).mean(axis=0)
    return {k: float(mean) for k, mean in zip(ks, means, strict=True)}
