"""Intervals over problems: of a mean, and of a paired difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from forkdiv.coverage.checked import Floats

# Below this spread over problems a bootstrap's width says nothing: all sit at one end.
NO_SPREAD = 1e-3


@dataclass(frozen=True)
class Interval:
    """A mean over problems and its two-sided limits, at one k."""

    value: float
    low: float
    high: float


def bootstrap_weights(strata: Sequence[str], replicates: int, seed: int) -> Floats:
    """How much each problem counts in each replicate; shape (replicates, problems).

    Problems are drawn with replacement within their stratum, so that halves fixed by design
    stay halves. One set of weights serves base and tuned alike: that is what pairs them.
    """
    names = np.asarray(strata)
    weights = np.zeros((replicates, len(names)))
    random = np.random.default_rng(seed)
    for name in sorted(set(strata)):
        members = np.flatnonzero(names == name)
        draws = random.multinomial(
            len(members), np.full(len(members), 1 / len(members)), replicates
        )
        weights[:, members] = draws
    weights /= len(names)  # in place: with 10,000 problems this is the largest array there is
    return weights


def mean_intervals(values: Floats, weights: Floats, confidence: float) -> list[Interval]:
    """Percentile bootstrap limits for the mean over problems of each column.

    `values` has shape (problems, ks). Where all problems agree at 0 or 1 the bootstrap has no
    width of its own; the Wilson limits stand in for it there.
    """
    means = values.mean(axis=0)
    # clipped: weights that sum to 1 but for rounding may leave the range by an ulp
    low, high = _percentiles(np.clip(weights @ values, 0.0, 1.0), confidence)
    out = []
    for column, mean in enumerate(means):
        if np.ptp(values[:, column]) < NO_SPREAD:
            below, above = wilson(float(mean), len(values), confidence)
            low[column], high[column] = min(low[column], below), max(high[column], above)
        out.append(Interval(float(mean), float(low[column]), float(high[column])))
    return out


def paired_differences(
    tuned: Floats, base: Floats, weights: Floats, confidence: float
) -> list[Interval]:
    """Percentile bootstrap limits for mean(tuned - base), the same problems drawn for both.

    Both have shape (problems, ks), rows the same problems in the same order. Where every
    problem has the same difference, Newcombe's limits from two Wilson intervals stand in.
    """
    if tuned.shape != base.shape:
        raise ValueError(f"paired values need equal shapes, got {tuned.shape} and {base.shape}")
    difference = tuned - base
    low, high = _percentiles(np.clip(weights @ difference, -1.0, 1.0), confidence)
    out = []
    for column, mean in enumerate(difference.mean(axis=0)):
        if np.ptp(difference[:, column]) < NO_SPREAD:
            means = float(tuned[:, column].mean()), float(base[:, column].mean())
            below, above = _newcombe(*means, len(tuned), confidence)
            low[column], high[column] = min(low[column], below), max(high[column], above)
        out.append(Interval(float(mean), float(low[column]), float(high[column])))
    return out


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a share of n (Wilson 1927)."""
    z = norm.ppf(0.5 + confidence / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # at the ends the limits are exact; rounding would leave them an ulp inside
    low = 0.0 if share <= 0 else float(max(centre - half, 0.0))
    high = 1.0 if share >= 1 else float(min(centre + half, 1.0))
    return low, high


def _percentiles(replicates: Floats, confidence: float) -> tuple[Floats, Floats]:
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(replicates, [tail, 100 - tail], axis=0)
    return low, high


def _newcombe(first: float, second: float, n: int, confidence: float) -> tuple[float, float]:
    """Limits for first - second from the Wilson limits of each (Newcombe 1998, method 10)."""
    low1, high1 = wilson(first, n, confidence)
    low2, high2 = wilson(second, n, confidence)
    difference = first - second
    below = np.hypot(first - low1, high2 - second)
    above = np.hypot(high1 - first, second - low2)
    return float(max(difference - below, -1.0)), float(min(difference + above, 1.0))
