"""Intervals over problems: of a mean, and of a paired difference, at each k and for all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from forkdiv.coverage.stats.checked import Floats
from forkdiv.coverage.stats.score_interval import Moments, limits

SCORE, WILSON = "score", "wilson"


@dataclass(frozen=True)
class Limits:
    """A value and its two-sided limits."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval(Limits):
    """A mean over problems and its two-sided limits at one k: `low` and `high` there alone,
    `low_all` and `high_all` for every k of the curve at once.

    `method` is SCORE where the limits hold as often as the confidence says: at 95 %, in 93 to
    97 % of simulated studies of 50 to 1,000 problems (tests/soak/test_interval_coverage.py). It
    is WILSON where fewer than ten problems stand behind the spread, as at the ceiling: no method
    is exact there, and these limits are cautious. Neither sees a rare kind of problem of which
    the sample has none, where the others already differ enough among themselves.
    """

    low_all: float
    high_all: float
    method: str

    @property
    def trusted(self) -> bool:
        """Whether the limits hold as often as they say, rather than more often."""
        return self.method == SCORE


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
        size = len(members)
        # a slice, where it will do, and counting are several times faster than multinomial draws
        where = members if size < len(names) else slice(None)
        for row in weights:
            row[where] = np.bincount(random.integers(0, size, size), minlength=size)
    weights /= len(names)  # in place: with 10,000 problems this is the largest array there is
    return weights


def mean_intervals(
    values: Floats, weights: Floats, confidence: float, strata: Sequence[str] | None = None
) -> list[Interval]:
    """Limits for the mean over problems of each column of `values`, (problems, ks) in [0, 1].

    `strata` names those that the problems were drawn from in fixed numbers; None: all from one.
    `weights` are those of a bootstrap over these problems. They tell how the columns hang
    together, so that limits for all k at once are no wider than they need be.
    """
    return _intervals(values, weights, confidence, strata, 0.0)


def paired_differences(
    tuned: Floats,
    base: Floats,
    weights: Floats,
    confidence: float,
    strata: Sequence[str] | None = None,
) -> list[Interval]:
    """Limits for mean(tuned - base), rows the same problems in the same order.

    As `mean_intervals`, of the differences of each problem. Raises ValueError for unequal shapes.
    """
    if tuned.shape != base.shape:
        raise ValueError(f"paired values need equal shapes, got {tuned.shape} and {base.shape}")
    return _intervals(tuned - base, weights, confidence, strata, -1.0)


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a share of n (Wilson 1927)."""
    z = ndtri(0.5 + confidence / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # at the ends the limits are exact; rounding would leave them an ulp inside
    low = 0.0 if share <= 0 else float(max(centre - half, 0.0))
    high = 1.0 if share >= 1 else float(min(centre + half, 1.0))
    return low, high


def confidence_at_once(replicates: Floats, confidence: float) -> float:
    """The confidence of limits at one k that makes those of all k hold together.

    `replicates` has shape (replicates, ks). The largest deviation over k, each in normal scores
    of its own replicates, stays below its quantile in a share `confidence` of them (sup-t; the
    ranks leave the skewness of each k to the limits that are made with the result).
    """
    spread = np.ptp(replicates, axis=0) > 0
    if spread.sum() < 2:
        return confidence
    ranks = rankdata(replicates[:, spread], axis=0)
    scores = np.abs(ndtri((ranks - 0.5) / len(replicates))).max(axis=1)
    return max(confidence, float(2 * ndtr(np.quantile(scores, confidence)) - 1))


def _intervals(
    values: Floats,
    weights: Floats,
    confidence: float,
    strata: Sequence[str] | None,
    least: float,
) -> list[Interval]:
    found = Moments.of(values, strata)
    jointly = confidence
    if values.shape[1] > 1:
        jointly = confidence_at_once(weights @ values, confidence)
    low, high = limits(found, confidence, least)
    low_all, high_all = limits(found, jointly, least)
    rows = zip(found.mean, low, high, low_all, high_all, found.few, strict=True)
    return [
        Interval(
            value=float(mean),
            low=float(below),
            high=float(above),
            low_all=float(below_all),
            high_all=float(above_all),
            method=WILSON if few else SCORE,
        )
        for mean, below, above, below_all, above_all, few in rows
    ]
