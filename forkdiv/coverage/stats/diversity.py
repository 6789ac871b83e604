"""Diversity of solutions: the expected number of distinct ones, and entropy of branch shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from forkdiv.coverage.stats.checked import Floats, sizes
from forkdiv.coverage.stats.estimators import pass_at_k


def distinct_at_k(n: int, seen: Sequence[Mapping[int, int]], k: ArrayLike) -> Floats:
    """Returns the expected number of distinct correct solutions among k of n samples, of shape
    (problems, ks).

    `seen` has for each problem {times: number of solutions that were drawn so often}. The
    probability that k samples contain a solution is pass@k with the count of that solution, and
    the expectation is their sum (rarefaction, Hurlbert 1971). Unbiased for k <= n; NaN if n < k.
    Raises ValueError if a solution was drawn more than n times.
    """
    ks = sizes(k).ravel()
    times = np.unique([count for problem in seen for count in problem]).astype(np.int64)
    solutions = np.array(
        [[problem.get(int(count), 0) for count in times] for problem in seen], dtype=np.float64
    )
    if not times.size:
        return np.where(n < ks, np.nan, 0.0) * np.ones((len(seen), 1))
    return np.asarray(solutions @ pass_at_k(n, times[:, None], ks))


def entropy(shares: ArrayLike, axis: int = -1) -> Floats:
    """Returns the Shannon entropy in nats of the shares along `axis`, normalised to sum 1.

    0 log 0 counts as 0. NaN if all shares are 0. Raises ValueError for a negative share.
    """
    p = np.asarray(shares, dtype=np.float64)
    if np.any(p < 0):
        raise ValueError(f"shares must not be negative, got {p.min()}")
    with np.errstate(invalid="ignore", divide="ignore"):
        p = p / p.sum(axis=axis, keepdims=True)
        parts = np.where(p > 0, -p * np.log(p), np.where(np.isnan(p), np.nan, 0.0))
    return np.asarray(parts.sum(axis=axis))
