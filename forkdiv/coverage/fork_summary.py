"""A model's probabilities at the forks of the held-out problems, and their summary for a cell.

`fork_pass_at` is pass@k of a model that makes errors at forks only. Its difference from 1 was lost
at the forks; the difference between it and `pass_at` was lost elsewhere.
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
    """One fork of one problem, reached by one prefix of a correct response.

    `problem` is its index, `depth` the number of the fork along the response, from 1. `chances`
    are the model's probabilities of the branches after `prefix`; they sum to at most 1. If the
    problem has several forks of one depth and kind, `weight` is the relative probability that the
    model reaches this fork; the weights sum to 1.
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
    """Probabilities of one checkpoint at one temperature.

    Float64 of shape (problems,): `p` is the probability of a correct response, `q` that of a right
    choice at every fork if all other tokens were certain; p <= q.
    """

    p: Floats
    q: Floats
    nodes: tuple[ForkNode, ...]


def at_forks(
    probabilities: ForkProbabilities,
    rows: Sequence[int],
    ks: Sequence[int],
    weights: Floats,
    confidence: float,
) -> AtForks:
    """Returns the fork results of a cell, over the problems `rows`.

    `weights` are bootstrap weights of these problems, of shape (replicates, rows). If only some of
    the problems have a fork of a kind, each replicate is renormalised over those. Entropies are in
    nats, over the branches only; 0 if every branch has probability 0 (temperature 0).

    Raises ValueError for no rows, repeated rows, and weights of another shape.
    """
    if not len(rows) or len(set(rows)) < len(rows):
        raise ValueError(f"rows must be one or more distinct problems, got {list(rows)}")
    if weights.ndim != 2 or weights.shape[1] != len(rows):
        raise ValueError(f"weights must have shape (replicates, {len(rows)}), got {weights.shape}")
    column = {row: at for at, row in enumerate(rows)}
    nodes = [node for node in probabilities.nodes if node.problem in column]
    nodes.sort(key=lambda node: (node.depth, not node.signed))  # signed first
    depths = []
    for kind, same_kind in groupby(nodes, key=lambda node: node.kind):
        depths.append(_depth(kind, list(same_kind), column, weights, confidence))
    return AtForks(
        depths=tuple(depths),
        fork_pass_at=_pass_at(probabilities.q[list(rows)], ks),
        pass_at=_pass_at(probabilities.p[list(rows)], ks),
    )


def _depth(
    kind: Kind,
    nodes: Sequence[ForkNode],
    column: dict[int, int],
    weights: Floats,
    confidence: float,
) -> ForkDepth:
    """Summarises all forks of one depth and kind."""
    width = max(len(node.branches) for node in nodes)
    chances = np.array([[*n.chances, *[0.0] * (width - len(n.chances))] for n in nodes])
    counts = np.array([len(node.branches) for node in nodes])
    total = chances.sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares = np.where(total[:, None] > 0, chances / total[:, None], 0.0)
    values = {
        "branches": counts,
        "accuracy": [_valid_mass(node) for node in nodes],
        "chance": [len(node.valid) / len(node.branches) for node in nodes],
        "entropy": entr(shares).sum(axis=1),
        "uniform": np.log(counts),
        "off": np.maximum(1 - total, 0.0),
    }
    table = np.column_stack([*values.values(), -np.sort(-chances, axis=1)])
    columns = np.array([column[node.problem] for node in nodes])
    problems, table = _by_problem(table * np.array([[node.weight] for node in nodes]), columns)
    means = dict(zip(values, table.mean(axis=0).tolist(), strict=False))
    # minimum: the weights sum to 1 up to rounding, so the result may exceed 1 by an ulp
    accuracy = _interval(
        np.minimum(table[:, 1], 1.0), _restrict_weights(weights, problems), confidence
    )
    return ForkDepth(
        depth=kind[0],
        signed=kind[1],
        problems=len(problems),
        shares=tuple(table[:, len(values) :].mean(axis=0).tolist()),
        **{**means, "accuracy": accuracy},
    )


def _valid_mass(node: ForkNode) -> float:
    pairs = zip(node.branches, node.chances, strict=True)
    return min(sum(chance for branch, chance in pairs if branch in node.valid), 1.0)


def _by_problem(table: Floats, columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Returns the distinct problems in `columns`, and the sum of the rows of each."""
    problems, group = np.unique(columns, return_inverse=True)
    sums = np.zeros((len(problems), table.shape[1]))
    np.add.at(sums, group, table)
    return problems, sums


def _restrict_weights(weights: Floats, problems: NDArray[np.int64]) -> Floats:
    """Returns bootstrap weights restricted to `problems`, renormalised to 1 in each replicate.
    Replicates that contain none of these problems are dropped."""
    selected = weights[:, problems]
    total = selected.sum(axis=1, keepdims=True)
    return np.asarray((selected / np.where(total > 0, total, 1.0))[total[:, 0] > 0])


def _interval(values: Floats, weights: Floats, confidence: float) -> Interval:
    """Returns limits for the mean over problems of `values`, of shape (problems,)."""
    (interval,) = stats.mean_intervals(values[:, None], weights, confidence)
    return Interval(value=interval.value, low=interval.low, high=interval.high)


def _pass_at(p: Floats, ks: Sequence[int]) -> dict[int, float]:
    means = stats.exact_pass_at_k(p[:, None], np.array(ks)).mean(axis=0)
    return {k: float(mean) for k, mean in zip(ks, means, strict=True)}
