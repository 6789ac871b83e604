"""Coverage shrinkage in numbers: where a gain turns into a loss, and which problems changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom

from forkdiv.coverage.stats.checked import Counts, Floats

NO_CHANGE = 1e-12  # a difference of two equal means, but for rounding


@dataclass(frozen=True)
class Crossing:
    """The k at which the change to the base goes from gain to loss, None where it never does.

    `low` is None where the limit lies below the smallest k (no gain was to be seen), `high` where
    it lies beyond the largest; both are None where `k` is. `share` of the bootstrap replicates
    have a crossing; `above_at_1` says whether the change at the smallest k is a gain.
    """

    k: float | None
    low: float | None
    high: float | None
    share: float
    above_at_1: bool


def crossing(ks: Sequence[int], difference: Floats, weights: Floats, confidence: float) -> Crossing:
    """Of differences tuned - base of shape (problems, ks), `ks` rising, one or more.

    It is the first fall from above 0 to below 0, interpolated linearly in log k. Percentile
    limits over the replicates of `weights`: one that gains up to the largest k counts as a
    crossing beyond it, one without a gain before its first loss as one below the smallest.
    """
    mean = difference.mean(axis=0)
    (found,) = _crossings(ks, mean[None, :])
    drawn = _crossings(ks, weights @ difference)
    inside = np.isfinite(drawn) & (drawn > 0)
    share, above = float(inside.mean()), bool(mean[0] > NO_CHANGE)
    if not 0 < found < np.inf:
        return Crossing(None, None, None, share, above)
    tail = (1 - confidence) / 2
    # a value that occurs: there is none between the largest k and what lies beyond
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    low, high = min(low, found), max(high, found)
    return Crossing(
        float(found),
        float(low) if low > 0 else None,
        float(high) if np.isfinite(high) else None,
        share,
        above,
    )


def _crossings(ks: Sequence[int], curves: Floats) -> Floats:
    """Of each curve, shape (curves, ks) -> (curves,); inf where it never falls below 0, 0 where
    it does so without having been above."""
    sign = np.where(np.abs(curves) < NO_CHANGE, 0, np.sign(curves)).astype(np.int64)
    gained = np.maximum.accumulate(sign, axis=1) > 0
    falls = (sign < 0) & gained
    at = np.argmax(falls, axis=1)
    out = np.where((sign < 0).any(axis=1), 0.0, np.inf)
    rows = np.flatnonzero(falls.any(axis=1))
    right = at[rows]
    # the first loss after a gain: its left neighbour is a gain or no change, or a loss from
    # before every gain, which `gained` rules out
    above, below = curves[rows, right - 1], curves[rows, right]
    logs = np.log(np.asarray(ks, dtype=np.float64))
    part = np.maximum(above, 0.0) / (np.maximum(above, 0.0) - below)
    out[rows] = np.exp(logs[right - 1] + part * (logs[right] - logs[right - 1]))
    return out


@dataclass(frozen=True)
class Changed:
    """Rows of problems, those that changed most first; `clear` of shape (problems,)."""

    lost: NDArray[np.int64]
    gained: NDArray[np.int64]
    clear: NDArray[np.bool_]


def changed(
    n: Counts, tuned: Counts, base: Counts, tuned_pass: Floats, base_pass: Floats, rate: float
) -> Changed:
    """Which problems were lost and gained at one k; all arrays of shape (problems,).

    Lost is a problem that the base is more likely than not to solve in k tries (`base_pass` above
    1/2) and the fine-tuned model is not; gained the other way round. It is `clear` where Fisher's
    exact test of `tuned` against `base` correct of `n` samples each tells them apart, at a false
    discovery rate of `rate` among all problems (Benjamini and Hochberg 1995).
    """
    fewest, most = np.minimum(tuned, base), np.maximum(tuned, base)
    # twice the tail of the larger count, given both: two-sided
    p = np.minimum(2 * hypergeom.sf(most - 1, 2 * n, fewest + most, n), 1.0)
    clear = false_discovery_control(p) < rate
    sides = []
    for before, after, gap in (
        (base_pass, tuned_pass, base - tuned),
        (tuned_pass, base_pass, tuned - base),
    ):
        rows = np.flatnonzero((before > 0.5) & (after <= 0.5))
        order = np.lexsort((-gap[rows], -(before - after)[rows]))
        sides.append(rows[order])
    return Changed(sides[0], sides[1], clear)
