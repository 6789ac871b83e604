"""How many different solutions a model finds: rarefaction, and entropy of branch shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from forkdiv.coverage.stats.checked import Floats, sizes
from forkdiv.coverage.stats.estimators import pass_at_k


def distinct_at_k(n: int, seen: Sequence[Mapping[int, int]], k: ArrayLike) -> Floats:
    """Expected number of distinct correct solutions among k of n samples; shape (problems, ks).

    `seen` says for each problem how many solutions were seen how often: {times: solutions}.
    Each of them is among k samples with the chance that pass@k has for its own count, so the
    expectation is the sum of those (rarefaction, Hurlbert 1971). Unbiased for k <= n; it is
    NaN where n < k. Raises ValueError where a solution was seen more than n times.
    """
    ks = sizes(k).ravel()
    times = np.unique([one for each in seen for one in each]).astype(np.int64)
    many = np.array([[each.get(int(one), 0) for one in times] for each in seen], dtype=np.float64)
    if not times.size:
        return np.where(n < ks, np.nan, 0.0) * np.ones((len(seen), 1))
    return np.asarray(many @ pass_at_k(n, times[:, None], ks))


def entropy(shares: ArrayLike, axis: int = -1) -> Floats:
    """Shannon entropy in nats of shares along `axis`, which are made to sum to 1; 0 log 0 is 0.

    NaN where all shares are 0. Raises ValueError for a negative share.
    """
    p = np.asarray(shares, dtype=np.float64)
    if np.any(p < 0):
        raise ValueError(f"shares must not be negative, got {p.min()}")
    with np.errstate(invalid="ignore", divide="ignore"):
        p = p / p.sum(axis=axis, keepdims=True)
        parts = np.where(p > 0, -p * np.log(p), np.where(np.isnan(p), np.nan, 0.0))
    return np.asarray(parts.sum(axis=axis))
