"""Confidence intervals over problems for means and paired differences, per k and simultaneous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from forkdiv.coverage.stats.checked import Floats
from forkdiv.coverage.stats.score_interval import Moments, limits

SCORE, WILSON = "score", "wilson"
MEAN_DIGITS = 12  # of means; what follows is the rounding of sums


@dataclass(frozen=True)
class Limits:
    """A value and its two-sided limits."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval(Limits):
    """A mean over problems and its two-sided limits at one k: `low` and `high` are pointwise,
    `low_all` and `high_all` simultaneous over every k of the curve.

    `method` is SCORE if the limits have their nominal coverage: at 95 %, 93 to 97 % of simulated
    studies of 50 to 1,000 problems (tests/soak/test_interval_coverage.py). It is WILSON if fewer
    than ten problems contribute to the spread, as at the ceiling: no method is exact there, and
    these limits are conservative. Neither method accounts for a rare kind of problem that is
    missing from the sample, if the sampled problems already differ enough from each other.
    """

    low_all: float
    high_all: float
    method: str

    @property
    def trusted(self) -> bool:
        """Returns whether the limits have nominal coverage (False: conservative)."""
        return self.method == SCORE


def bootstrap_weights(strata: Sequence[str], replicates: int, seed: int) -> Floats:
    """Returns the weight of each problem in each bootstrap replicate, of shape (replicates,
    problems).

    Problems are drawn with replacement within their stratum, so that strata keep their sizes. Base
    and tuned use the same weights, which makes their comparison paired.
    """
    names = np.asarray(strata)
    weights = np.zeros((replicates, len(names)))
    random = np.random.default_rng(seed)
    for name in sorted(set(strata)):
        members = np.flatnonzero(names == name)
        size = len(members)
        # counting draws, with a slice if possible, is several times faster than multinomial draws
        where = members if size < len(names) else slice(None)
        for row in weights:
            row[where] = np.bincount(random.integers(0, size, size), minlength=size)
    weights /= len(names)  # in place: with 10,000 problems this is the largest array there is
    return weights


def mean_intervals(
    values: Floats, weights: Floats, confidence: float, strata: Sequence[str] | None = None
) -> list[Interval]:
    """Returns limits for the mean over problems of each column of `values`, (problems, ks) in
    [0, 1].

    `strata` has the stratum of each problem, for strata of fixed sizes; None: a single stratum.
    `weights` are bootstrap weights of these problems, used for the correlation between columns, so
    that simultaneous limits are not wider than necessary.
    """
    return _intervals(values, weights, confidence, strata, 0.0)


def paired_differences(
    tuned: Floats,
    base: Floats,
    weights: Floats,
    confidence: float,
    strata: Sequence[str] | None = None,
) -> list[Interval]:
    """Returns limits for mean(tuned - base); rows are the same problems in the same order.

    Applies `mean_intervals` to the difference of each problem. Raises ValueError for unequal
    shapes.
    """
    if tuned.shape != base.shape:
        raise ValueError(
            f"paired values must have equal shapes, got {tuned.shape} and {base.shape}"
        )
    return _intervals(tuned - base, weights, confidence, strata, -1.0)


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Returns the Wilson score interval for a share of n (Wilson 1927)."""
    z = ndtri(0.5 + confidence / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # for shares 0 and 1 the limit is exact; rounding would change it by an ulp
    low = 0.0 if share <= 0 else float(max(centre - half, 0.0))
    high = 1.0 if share >= 1 else float(min(centre + half, 1.0))
    return low, high


def confidence_at_once(replicates: Floats, confidence: float) -> float:
    """Returns the pointwise confidence at which the limits of all k hold simultaneously.

    `replicates` has shape (replicates, ks). The method is sup-t: the largest deviation over k, in
    normal scores of the replicates of that k, is below its quantile in a share `confidence` of the
    replicates. Ranks are used because the skewness of each k is handled by the limits.
    """
    # Few problems have many equal means. The order of their sums, which depends on the number of
    # threads, must not decide which is larger.
    replicates = replicates.round(MEAN_DIGITS)
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
    moments = Moments.of(values, strata)
    simultaneous = confidence
    if values.shape[1] > 1:
        simultaneous = confidence_at_once(weights @ values, confidence)
    low, high = limits(moments, confidence, least)
    low_all, high_all = limits(moments, simultaneous, least)
    rows = zip(moments.mean, low, high, low_all, high_all, moments.cautious, strict=True)
    return [
        Interval(
            value=float(mean),
            low=float(below),
            high=float(above),
            low_all=float(below_all),
            high_all=float(above_all),
            method=WILSON if is_cautious else SCORE,
        )
        for mean, below, above, below_all, above_all, is_cautious in rows
    ]
