"""The coverage law: extrapolates pass@k beyond the number of samples, with a held-out check.

log pass@k is close to a·k^b with a and b at most 0 (Brown et al. 2024, arXiv 2407.21787). This is
an observation about averages over many problems of different difficulty, not a theorem:
1 - (1-p)^k of a single p does not follow it. The limits describe the variation over new problems
and samples *if the law holds*. They do not measure how wrong the law is; the held-out check does,
up to the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from forkdiv.coverage.stats.beta import beta_rates
from forkdiv.coverage.stats.checked import Counts, Floats, require_c_at_most_n, sizes, whole
from forkdiv.coverage.stats.estimators import pass_at_k
from forkdiv.coverage.stats.intervals import Limits

MIN_KS = 3  # two parameters fit any two points
STEEPEST = -8.0  # lower bound of b, at which pass@2 is almost 1
HELDOUT_FACTOR = 8  # the check is fitted to n/8 samples, so that it extrapolates by this factor
GRID_SIZE = 161  # grid values of b before the golden-section search
ALMOST_1 = 1 - 1e-9


@dataclass(frozen=True)
class Heldout:
    """The law fitted to `fit_n` samples of each problem, compared with pass@`at_k` of the other
    samples. `error` is predicted minus observed.
    """

    fit_n: int
    at_k: int
    predicted: Limits
    observed: Limits
    error: float


@dataclass(frozen=True)
class Rival:
    """The same for beta-distributed probabilities (`beta_rates`), where pass@k approaches 1."""

    alpha: float
    beta: float
    predictions: dict[str, Limits]
    heldout: Heldout | None


@dataclass(frozen=True)
class Law:
    """pass@k = exp(a·k^b), with percentile bootstrap limits; `predictions` by k as text.

    `heldout` is None if there are too few samples for the check. `rival` is the alternative model,
    fitted to the same samples; prefer the model with the smaller held-out error.
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
    """Returns the law fitted to `correct` of `n` samples of each problem, or the reason why it
    cannot be fitted.

    Least squares on log pass@k at k = 1, 2, 4 … and n. `correct` has shape (problems,), `weights`
    (replicates, problems) come from `bootstrap_weights`. The held-out check draws n/8 samples of
    each problem (at least 4) without replacement, fits the law to them, and predicts pass@k for
    k = the number of other samples. Only counts are needed: samples of one problem are
    exchangeable, so that the counts of a subset are hypergeometric. The check has a fixed seed.

    Raises ValueError for counts that are not integers or exceed n, and for k below 1.
    """
    c, ks = whole("correct", correct), sizes(predict)
    require_c_at_most_n(np.full_like(c, n), c)
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
    """a and b: first the fit to all problems, then those to the replicates."""

    a: Floats
    b: Floats

    @classmethod
    def to(cls, n: int, correct: Counts, weights: Floats) -> _Fit | str:
        ks = _ks(n)
        curves = _curves(n, correct, ks, weights)
        if curves[0, -1] <= 0:
            return "no sample is correct: pass@k is 0 at every k"
        if curves[0, 0] >= ALMOST_1:
            return "every sample is correct: pass@k is 1 at every k"
        unsaturated = int((curves[0] < ALMOST_1).sum())
        if unsaturated < MIN_KS:
            return (
                f"pass@k is below 1 at {unsaturated} of the k = {', '.join(map(str, ks))}, and "
                f"the fit needs at least {MIN_KS}"
            )
        # replicates without a correct sample count as half a correct sample: log 0 is infinite
        floor = 0.5 / (n * len(correct))
        return cls(*least_squares(ks, np.log(np.clip(curves, floor, 1.0))))

    def at(self, k: int) -> Floats:
        return np.asarray(np.exp(self.a * float(k) ** self.b))


def least_squares(ks: Counts, logs: Floats) -> tuple[Floats, Floats]:
    """Returns a and b for each row of `logs`, of shape (curves, ks).

    For a given b the best a has a closed form, so that only b is searched: on a grid, then by
    golden section between the neighbours of the best grid value, for all curves at once.
    """
    steps = np.log(ks.astype(np.float64))
    # denser towards 0, where most curves are
    grid = STEEPEST * np.linspace(0, 1, GRID_SIZE) ** 2
    powers = np.exp(steps[:, None] * grid)
    best = np.argmax((logs @ powers) ** 2 / (powers**2).sum(0), axis=1)
    low, high = grid[np.minimum(best + 1, GRID_SIZE - 1)], grid[np.maximum(best - 1, 0)]
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
    """Returns the held-out checks of the law and of the alternative, on the same samples."""
    fit_n = max(n // HELDOUT_FACTOR, 2 ** (MIN_KS - 1))
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
    """Returns pass@k of all problems, then of each replicate, of shape (1 + replicates, ks)."""
    # problems with equal counts have equal values: at most n + 1 distinct values
    counts, where = np.unique(correct, return_inverse=True)
    values = pass_at_k(n, counts[:, None], ks)[where]
    return np.vstack([values.mean(0), weights @ values])


def _tail(confidence: float) -> list[float]:
    tail = (1 - confidence) / 2 * 100
    return [tail, 100 - tail]


def _interval(values: Floats, confidence: float) -> Limits:
    low, high = np.percentile(values[1:], _tail(confidence))
    return Limits(float(values[0]), float(low), float(high))
