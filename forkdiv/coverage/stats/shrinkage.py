"""Statistics of coverage shrinkage: the k at which gain becomes loss, and changed problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom

from forkdiv.coverage.stats.checked import Counts, Floats

NO_CHANGE = 1e-12  # smaller differences of means are rounding errors


@dataclass(frozen=True)
class Crossing:
    """The k at which the change to the base goes from gain to loss; None if there is none.

    `low` is None if the lower limit lies before the first k, `high` if the upper one lies after the
    last; both are None if `k` is. `share` is the share of bootstrap replicates with a crossing;
    `above_at_1` is true if the change at the first k is a gain.
    """

    k: float | None
    low: float | None
    high: float | None
    share: float
    above_at_1: bool


def crossing(ks: Sequence[int], difference: Floats, weights: Floats, confidence: float) -> Crossing:
    """Returns the crossing of differences tuned - base, of shape (problems, ks) with ascending ks.

    It is the first fall from above 0 to below 0, interpolated linearly in log k. The percentile
    limits are over the replicates of `weights`: a replicate with gains up to the largest k counts
    as a crossing above it, a replicate without a gain before its first loss as one below the
    first k.
    """
    mean = difference.mean(axis=0)
    (estimate,) = _crossings(ks, mean[None, :])
    replicates = _crossings(ks, weights @ difference)
    has_crossing = np.isfinite(replicates) & (replicates > 0)
    share, gains_at_first = float(has_crossing.mean()), bool(mean[0] > NO_CHANGE)
    if not 0 < estimate < np.inf:
        return Crossing(None, None, None, share, gains_at_first)
    tail = (1 - confidence) / 2
    # inverted_cdf returns a value that occurs: interpolation with inf would be meaningless
    low, high = np.quantile(replicates, [tail, 1 - tail], method="inverted_cdf")
    low, high = min(low, estimate), max(high, estimate)
    return Crossing(
        float(estimate),
        float(low) if low > 0 else None,
        float(high) if np.isfinite(high) else None,
        share,
        gains_at_first,
    )


def _crossings(ks: Sequence[int], curves: Floats) -> Floats:
    """Returns the crossing of each curve, (curves, ks) -> (curves,); inf if the curve is never
    below 0, 0 if it falls below 0 without a gain before."""
    sign = np.where(np.abs(curves) < NO_CHANGE, 0, np.sign(curves)).astype(np.int64)
    gained = np.maximum.accumulate(sign, axis=1) > 0
    falls = (sign < 0) & gained
    at = np.argmax(falls, axis=1)
    out = np.where((sign < 0).any(axis=1), 0.0, np.inf)
    rows = np.flatnonzero(falls.any(axis=1))
    right = at[rows]
    # at the first loss after a gain, the previous value is a gain or no change
    above, below = curves[rows, right - 1], curves[rows, right]
    logs = np.log(np.asarray(ks, dtype=np.float64))
    fraction = np.maximum(above, 0.0) / (np.maximum(above, 0.0) - below)
    out[rows] = np.exp(logs[right - 1] + fraction * (logs[right] - logs[right - 1]))
    return out


@dataclass(frozen=True)
class Changed:
    """Row indices of lost and gained problems, largest change first; `clear` has shape
    (problems,)."""

    lost: NDArray[np.int64]
    gained: NDArray[np.int64]
    clear: NDArray[np.bool_]


def changed(
    n: Counts, tuned: Counts, base: Counts, tuned_pass: Floats, base_pass: Floats, rate: float
) -> Changed:
    """Returns the problems that were lost and gained at one k; all arrays have shape (problems,).

    A problem is lost if pass@k is above 1/2 for the base (`base_pass`) and not for the fine-tuned
    model (`tuned_pass`), and gained in the opposite case. It is `clear` if Fisher's exact test of
    `tuned` against `base` correct samples of `n` each is significant at a false discovery rate of
    `rate` among all problems (Benjamini and Hochberg 1995).
    """
    smaller, larger = np.minimum(tuned, base), np.maximum(tuned, base)
    # two-sided: twice the tail of the larger count, conditional on the sum
    p = np.minimum(2 * hypergeom.sf(larger - 1, 2 * n, smaller + larger, n), 1.0)
    clear = false_discovery_control(p) < rate
    changed_rows = []
    for before, after, gap in (
        (base_pass, tuned_pass, base - tuned),
        (tuned_pass, base_pass, tuned - base),
    ):
        rows = np.flatnonzero((before > 0.5) & (after <= 0.5))
        order = np.lexsort((-gap[rows], -(before - after)[rows]))
        changed_rows.append(rows[order])
    return Changed(changed_rows[0], changed_rows[1], clear)
