"""The coverage law: what more samples than were drawn might give, and a check of that guess.

log pass@k is close to a·k^b with a and b of at most 0 (Brown et al. 2024, arXiv 2407.21787).
That is an observation about averages over many problems of unlike difficulty, not a theorem:
1 - (1-p)^k of a single p does not follow it. The limits given here are those of problems and
samples drawn anew *if the law holds*. They say nothing of how wrong the law is; the held-out
check does, as far as the samples reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from forkdiv.coverage.stats.beta import beta_rates
from forkdiv.coverage.stats.checked import Counts, Floats, sizes, whole, within
from forkdiv.coverage.stats.estimators import pass_at_k
from forkdiv.coverage.stats.intervals import Limits

LEAST_KS = 3  # two numbers go through any two points
STEEPEST = -8.0  # of b: there pass@2 is as good as 1
FAR = 8  # how many times fewer samples the check is fitted to; the nearest prediction is as far
SEARCHED = 161  # values of b that are tried before the best of them is made exact
FULL = 1 - 1e-9


@dataclass(frozen=True)
class Heldout:
    """The law from `fit_n` samples of each problem, against pass@`at_k` of the other samples.

    `error` is predicted less observed.
    """

    fit_n: int
    at_k: int
    predicted: Limits
    observed: Limits
    error: float


@dataclass(frozen=True)
class Rival:
    """The same from beta-distributed chances (`beta_rates`), which expect pass@k to end at 1."""

    alpha: float
    beta: float
    predictions: dict[str, Limits]
    heldout: Heldout | None


@dataclass(frozen=True)
class Law:
    """pass@k = exp(a·k^b), with percentile bootstrap limits; `predictions` by k, as text.

    `heldout` is None where there are too few samples to fit a part of them. `rival` is fitted to
    the same samples: the one with the smaller held-out error is the one to go by.
    """

    a: float
    a_low: float
    a_high: float
    b: float
    b_low: float
    b_high: float
    predictions: dict[str, Limits]
    heldout: Heldout | None
    rival: Rival


def law(
    n: int, correct: ArrayLike, predict: Sequence[int], weights: Floats, confidence: float
) -> Law | str:
    """The law fitted to `correct` of `n` samples of each problem; or why it cannot be.

    Least squares on log pass@k at k = 1, 2, 4 … and n. `correct` has shape (problems,),
    `weights` (replicates, problems) are those of `bootstrap_weights`. The check draws n/8
    samples of each problem (at least 4) without replacement, fits the law to them, and asks it for
    pass@k of all the others together. Only counts are needed: samples of one problem are
    exchangeable, so that those of a part are hypergeometric. Its seed is fixed.

    Raises ValueError for counts that are no whole numbers or above n, and for k below 1.
    """
    c, ks = whole("correct", correct), sizes(predict)
    within(np.full_like(c, n), c)
    fitted = _Fit.to(n, c, weights)
    if isinstance(fitted, str):
        return fitted
    rival = beta_rates(n, c, weights)
    checks = _heldout(n, c, weights, confidence)
    tail = _tail(confidence)
    a, b = (np.percentile(values[1:], tail) for values in (fitted.a, fitted.b))
    return Law(
        a=float(fitted.a[0]),
        a_low=float(a[0]),
        a_high=float(a[1]),
        b=float(fitted.b[0]),
        b_low=float(b[0]),
        b_high=float(b[1]),
        predictions={str(k): _interval(fitted.at(int(k)), confidence) for k in ks},
        heldout=checks and checks[0],
        rival=Rival(
            alpha=float(rival.alpha[0]),
            beta=float(rival.beta[0]),
            predictions={str(k): _interval(rival.at(int(k)), confidence) for k in ks},
            heldout=checks and checks[1],
        ),
    )


@dataclass(frozen=True)
class _Fit:
    """a and b of all problems, and after it those of each replicate."""

    a: Floats
    b: Floats

    @classmethod
    def to(cls, n: int, correct: Counts, weights: Floats) -> _Fit | str:
        ks = _ks(n)
        curves = _curves(n, correct, ks, weights)
        if curves[0, -1] <= 0:
            return "no sample is correct: pass@k is 0 at every k"
        if curves[0, 0] >= FULL:
            return "every sample is correct: pass@k is 1 at every k"
        below = int((curves[0] < FULL).sum())
        if below < LEAST_KS:
            return (
                f"pass@k is below 1 at {below} of the k = {', '.join(map(str, ks))}, and two "
                f"numbers need at least {LEAST_KS}"
            )
        # a replicate in which nothing was right stands at half a right sample
        least = 0.5 / (n * len(correct))
        return cls(*least_squares(ks, np.log(np.clip(curves, least, 1.0))))

    def at(self, k: int) -> Floats:
        return np.asarray(np.exp(self.a * float(k) ** self.b))


def least_squares(ks: Counts, logs: Floats) -> tuple[Floats, Floats]:
    """a and b for each row of `logs`, shape (curves, ks).

    For a given b the best a is a quotient, so that one number is searched: over a grid, then
    between the neighbours of the best place by golden section, all curves at once.
    """
    steps = np.log(ks.astype(np.float64))
    # closer together towards 0, where the curves lie
    grid = STEEPEST * np.linspace(0, 1, SEARCHED) ** 2
    powers = np.exp(steps[:, None] * grid)
    best = np.argmax((logs @ powers) ** 2 / (powers**2).sum(0), axis=1)
    low, high = grid[np.minimum(best + 1, SEARCHED - 1)], grid[np.maximum(best - 1, 0)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(48):
        left, right = high - golden * (high - low), low + golden * (high - low)
        worse = _misfit(steps, logs, left) > _misfit(steps, logs, right)
        low, high = np.where(worse, left, low), np.where(worse, high, right)
    b = (low + high) / 2
    power = np.exp(b[:, None] * steps)
    return (logs * power).sum(1) / (power**2).sum(1), b


def _misfit(steps: Floats, logs: Floats, b: Floats) -> Floats:
    power = np.exp(b[:, None] * steps)
    a = (logs * power).sum(1) / (power**2).sum(1)
    return np.asarray(((logs - a[:, None] * power) ** 2).sum(1))


def _heldout(
    n: int, correct: Counts, weights: Floats, confidence: float
) -> tuple[Heldout, Heldout] | None:
    """The check of the law and that of its rival, on the same samples."""
    fit_n = max(n // FAR, 2 ** (LEAST_KS - 1))
    at_k = n - fit_n
    if at_k <= fit_n:
        return None
    drawn = np.random.default_rng(0).hypergeometric(correct, n - correct, fit_n)
    fitted = _Fit.to(fit_n, drawn, weights)
    if isinstance(fitted, str):
        return None
    observed = _curves(at_k, correct - drawn, np.array([at_k]), weights)[:, 0]

    def check(predicted: Floats) -> Heldout:
        return Heldout(
            fit_n=fit_n,
            at_k=at_k,
            predicted=_interval(predicted, confidence),
            observed=_interval(observed, confidence),
            error=float(predicted[0] - observed[0]),
        )

    return check(fitted.at(at_k)), check(beta_rates(fit_n, drawn, weights).at(at_k))


def _ks(n: int) -> Counts:
    return np.unique([*(2**i for i in range(n.bit_length())), n])


def _curves(n: int, correct: Counts, ks: Counts, weights: Floats) -> Floats:
    """pass@k of all problems, then of each replicate; shape (1 + replicates, ks)."""
    # problems with equal counts have equal values: there are at most n + 1 of them
    counts, where = np.unique(correct, return_inverse=True)
    values = pass_at_k(n, counts[:, None], ks)[where]
    return np.vstack([values.mean(0), weights @ values])


def _tail(confidence: float) -> list[float]:
    tail = (1 - confidence) / 2 * 100
    return [tail, 100 - tail]


def _interval(values: Floats, confidence: float) -> Limits:
    low, high = np.percentile(values[1:], _tail(confidence))
    return Limits(float(values[0]), float(low), float(high))
