"""pass@k and its intervals. numpy and scipy only; arrays in, arrays out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from scipy.stats import binom, norm

Floats = NDArray[np.float64]

# Below this spread over problems a bootstrap's width says nothing: all sit at one end.
NO_SPREAD = 1e-3


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """Unbiased estimate of the chance that at least one of k samples is correct.

    `n` samples of which `c` correct, drawn without replacement: 1 - C(n-c, k) / C(n, k)
    (Chen et al. 2021, arXiv 2107.03374), in logarithms so that n = 100,000 is fine. The three
    broadcast. Where n < k nothing is known: NaN, with a RuntimeWarning.

    Raises ValueError for counts that are fractional, negative, or c > n, and for k < 1.
    """
    n_, c_, k_ = (_counts(name, value) for name, value in (("n", n), ("c", c), ("k", k)))
    if np.any(k_ < 1):
        raise ValueError(f"k must be at least 1, got {k_.min()}")
    n_, c_, k_ = np.broadcast_arrays(n_, c_, k_)
    if np.any(c_ > n_):
        at = np.argmax(c_ > n_)
        raise ValueError(f"c must not exceed n, got c={c_.flat[at]} of n={n_.flat[at]} at {at}")
    unknown, certain = n_ < k_, (n_ - c_ < k_) & (n_ >= k_)
    if np.any(unknown):
        warnings.warn(
            f"pass@k is undefined for fewer than k samples: {int(unknown.sum())} of "
            f"{unknown.size} values are NaN",
            RuntimeWarning,
            stacklevel=2,
        )
    plain = ~(unknown | certain)
    wrong = np.where(plain, n_ - c_, k_)  # any value with a defined logarithm where unused
    total = np.where(plain, n_, k_)
    log_none = (
        gammaln(wrong + 1) + gammaln(total - k_ + 1) - gammaln(wrong - k_ + 1) - gammaln(total + 1)
    )
    # min: rounding must not push a probability of no hit above 1
    value = -np.expm1(np.minimum(log_none, 0.0))
    return np.where(unknown, np.nan, np.where(certain, 1.0, value))


def exact_pass_at_k(p: ArrayLike, k: ArrayLike) -> Floats:
    """1 - (1-p)^k for known probabilities `p` of a correct response; the two broadcast."""
    p_, k_ = _probabilities(p), _counts("k", k)
    if np.any(k_ < 1):
        raise ValueError(f"k must be at least 1, got {k_.min()}")
    with np.errstate(divide="ignore"):
        none = np.expm1(k_ * np.log1p(-p_))
    return np.asarray(-none)


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
    return weights / len(names)


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


@dataclass(frozen=True)
class Agreement:
    """Sampled against exact pass@k: differences in standard errors of sampling alone."""

    worst_z: float
    at_k: int
    agrees: bool


def agreement(
    counts: NDArray[np.int64], n: int, p: Floats, ks: Sequence[int], limit: float = 5.0
) -> Agreement:
    """Whether `counts` of correct samples could come from a sampler of probabilities `p`.

    The standard error is exact: c is binomial(n, p), so the variance of each problem's
    estimate is summed over every possible c. The limit leaves room for a few hundred looks.
    One sample's weight in the mean is granted on top, since a normal limit misjudges
    differences of less than one event.

    Raises ValueError where counts, probabilities or k do not fit together.
    """
    p = _probabilities(p)
    if len(counts) != len(p) or max(ks) > n:
        raise ValueError(
            f"agreement needs a probability per problem and k up to n, got {len(counts)} counts, "
            f"{len(p)} probabilities, k up to {max(ks)} of n={n}"
        )
    p = np.where(p < 1e-290, 0.0, p)  # scipy's binomial overflows next to the smallest doubles
    possible = np.arange(n + 1)
    chances = binom.pmf(possible[None, :], n, p[:, None])
    worst = Agreement(0.0, int(ks[0]), True)
    for k in ks:
        estimates = pass_at_k(n, possible, k)
        expected = chances @ estimates
        variance = np.maximum(chances @ estimates**2 - expected**2, 0.0)
        one_event = min(1.0, k / n) / len(p)
        error = max(float(np.sqrt(variance.sum())) / len(p), one_event)
        z = float((pass_at_k(n, counts, k).mean() - expected.mean()) / error)
        if not abs(z) <= abs(worst.worst_z):
            worst = Agreement(z, int(k), abs(z) <= limit)
    return worst


def _counts(name: str, value: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(value)
    whole = array.dtype.kind in "iuf" and np.all(np.isfinite(array) & (array == np.floor(array)))
    if not whole or np.any(array < 0):
        raise ValueError(f"{name} must be whole numbers of at least 0, got {value!r}")
    return array.astype(np.int64)


def _probabilities(p: ArrayLike) -> Floats:
    """`p` as float64; sums of float32 steps may pass 1 by rounding and are cut there."""
    array = np.asarray(p, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 1 + 1e-6)):
        raise ValueError(f"probabilities lie in [0, 1], got {array.min()} to {array.max()}")
    return np.minimum(array, 1.0)


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
