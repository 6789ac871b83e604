"""Power: how often a comparison of so many problems and samples shows a given loss.

Studies are simulated: problems are drawn from a population of paired success probabilities, samples
from the problems, and the limits are those of `paired_differences`. A loss is shown if its upper
limit is below 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, betaln, ndtr, ndtri
from scipy.stats import binom

from forkdiv.coverage.stats.checked import Floats
from forkdiv.coverage.stats.estimators import pass_at_k
from forkdiv.coverage.stats.score_interval import Moments, limits

POPULATION = 200_000  # simulated problems
STUDIES = 2000  # the standard error of a power is at most 0.011
MAX_VALUES = 2**21  # simulated problems that are in memory at once
FEWEST, SIMULATIONS, NEAR = 10, 6, 0.01  # of the search for a number of problems
MOST_SIMULATED = 20_000  # problems of a study; for larger ones the normal approximation is exact
GRID, STEPS = 33, 150  # of the estimate of a joint distribution
CONCENTRATIONS = (-7.0, 12.0)  # logarithms of a + b of the beta distributions


@dataclass(frozen=True)
class Population:
    """Paired success probabilities of problems, base and tuned, each of shape (problems,)."""

    base: Floats
    tuned: Floats


def assumed(
    k: int,
    pass_at_1: float,
    pass_at_k: float,
    loss: float,
    correlation: float,
    random: np.random.Generator,
    size: int = POPULATION,
) -> Population:
    """Returns problems whose success probabilities follow beta distributions.

    The base has the mean `pass_at_1` and the given pass@k. The tuned model loses `loss` of pass@k:
    with the same mean if possible (its probabilities move towards 0 and 1), else with a lower mean.
    `correlation` is that of the normal scores of base and tuned (a Gaussian copula). Raises
    ValueError if no beta distribution has these means.
    """
    base = _beta(k, pass_at_1, pass_at_k)
    if k > 1 and _is_possible(k, pass_at_1, pass_at_k - loss):
        tuned = _beta(k, pass_at_1, pass_at_k - loss)
    else:
        tuned = _lowered(k, base, pass_at_k - loss)
    first = random.standard_normal(size)
    second = correlation * first + math.sqrt(1 - correlation**2) * random.standard_normal(size)
    return Population(betaincinv(*base, ndtr(first)), betaincinv(*tuned, ndtr(second)))


def measured(
    n: int,
    pairs: Sequence[tuple[int, int, int]],
    k: int,
    loss: float,
    random: np.random.Generator,
    size: int = POPULATION,
) -> Population:
    """Returns problems like those of a finished comparison, with another loss of pass@k.

    `pairs` lists (right samples of the base, of the tuned model, problems), `n` samples each. The
    joint distribution of the two success probabilities is the nonparametric maximum likelihood
    estimate on a grid (Kiefer and Wolfowitz 1956), computed by expectation maximization. So it
    keeps the correlation of base and tuned, without the noise of the samples.

    If less than `loss` was measured, the tuned model never solves a random share of the problems;
    if more was measured, it equals the base on a random share. Raises ValueError if the tuned model
    cannot lose so much.
    """
    counts, index = np.unique(np.array(pairs)[:, :2], axis=0, return_inverse=True)
    problems = np.bincount(index.ravel(), np.array(pairs)[:, 2])
    problems = problems / problems.sum()
    grid = np.sin(np.linspace(0, np.pi / 2, GRID)) ** 2  # finer near 0 and 1
    base, tuned = (np.asarray(binom.pmf(counts[:, [side]], n, grid)) for side in (0, 1))
    joint = np.full((GRID, GRID), 1 / GRID**2)
    for _ in range(STEPS):
        likelihood = ((base @ joint) * tuned).sum(axis=1)
        joint *= base.T @ (tuned * (problems / likelihood)[:, None])
    cells = random.choice(GRID**2, size, p=(joint / joint.sum()).ravel())
    return _with_loss(Population(grid[cells // GRID], grid[cells % GRID]), k, loss, random)


def _with_loss(
    population: Population, k: int, loss: float, random: np.random.Generator
) -> Population:
    base, tuned = population.base, population.tuned
    before, after = (float(np.mean(1 - (1 - p) ** k)) for p in (base, tuned))
    missing = loss - (before - after)
    if missing > after:
        raise ValueError(f"the loss must be at most pass@{k} of the base, {before:.3f}")
    chosen = random.random(len(base)) < (
        missing / after if missing > 0 else missing / (missing - loss)
    )
    return Population(base, np.where(chosen, 0.0 if missing > 0 else base, tuned))


@dataclass(frozen=True)
class Design:
    """Estimated differences of pass@k, tuned - base, of problems with `samples` samples each, of
    shape (problems,); their mean is -loss."""

    samples: int
    loss: float
    differences: Floats

    @classmethod
    def of(
        cls, population: Population, k: int, samples: int, loss: float, random: np.random.Generator
    ) -> Design:
        """Draws the samples. Differences are shifted by the error of the mean of the simulated
        problems, which is small beside that of a study."""
        estimates = pass_at_k(samples, np.arange(samples + 1), k)
        base, tuned = (
            estimates[random.binomial(samples, np.clip(p, 0.0, 1.0))]
            for p in (population.base, population.tuned)
        )
        differences = tuned - base
        return cls(samples, loss, differences - differences.mean() - loss)

    @property
    def spread(self) -> float:
        """The standard deviation over problems."""
        return float(self.differences.std())

    def power(
        self,
        problems: int,
        confidence: float,
        random: np.random.Generator,
        studies: int = STUDIES,
    ) -> float:
        """Returns the share of simulated studies of so many problems that show the loss."""
        shown = 0
        step = max(MAX_VALUES // problems, 1)
        for start in range(0, studies, step):
            size = (min(step, studies - start), problems)
            values = self.differences[random.integers(0, len(self.differences), size)]
            _, high = limits(Moments.of(values[..., None]), confidence, -1.0)
            shown += int((high[:, 0] < 0).sum())
        return shown / studies

    def detectable(self, problems: int, confidence: float, power: float) -> float:
        """Returns the loss that a study of so many problems shows with this power, by the normal
        approximation with the spread of this design."""
        return (_normal(confidence) + float(ndtri(power))) * self.spread / math.sqrt(problems)

    def required(self, confidence: float, power: float, random: np.random.Generator) -> int:
        """Returns the number of problems that gives this power, rounded up to two digits: by the
        normal approximation, corrected by simulations.

        Power rises faster than the approximation says where few problems have a difference: there,
        limits are conservative. So the number is bracketed by the simulated ones.
        """
        aim = _normal(confidence) + float(ndtri(power))
        problems = (aim * self.spread / self.loss) ** 2
        low, high = float(FEWEST), math.inf
        for _ in range(SIMULATIONS):
            if not FEWEST <= problems <= MOST_SIMULATED:
                break
            reached = self.power(round(problems), confidence, random)
            if abs(reached - power) < NEAR:
                break
            low, high = (problems, high) if reached < power else (low, problems)
            score = float(ndtri(np.clip(reached, 0.01, 0.99)))
            problems *= (aim / (_normal(confidence) + score)) ** 2
            if not low < problems < high:
                problems = math.sqrt(low * high) if math.isfinite(high) else 2 * low
        return _rounded_up(problems)


def _normal(confidence: float) -> float:
    return float(ndtri(0.5 + confidence / 2))


def _rounded_up(value: float) -> int:
    unit = int(10 ** max(math.floor(math.log10(max(value, 1.0))) - 1, 0))
    return max(math.ceil(value / unit) * unit, 2)


def _is_possible(k: int, mean: float, pass_at: float) -> bool:
    """Returns whether a beta distribution with this mean has this pass@k: it lies between that of
    problems that are always or never solved, and that of equal problems."""
    low, high = (_pass_at(k, mean, concentration) for concentration in CONCENTRATIONS)
    return low < pass_at < high


def _beta(k: int, mean: float, pass_at: float) -> tuple[float, float]:
    """Returns a and b of the beta distribution with this mean and pass@k; for k = 1 it is uniform
    in its concentration (a + b = 2). Raises ValueError if there is none."""
    if k == 1:
        if not math.isclose(mean, pass_at) or not 0 < mean < 1:
            raise ValueError(f"for k=1 both values are pass@1, in (0, 1), got {mean} and {pass_at}")
        return 2 * mean, 2 * (1 - mean)
    if not 0 < mean < 1 or not _is_possible(k, mean, pass_at):
        raise ValueError(
            f"pass@{k} must be above pass@1={mean:g} and below that of equal problems, "
            f"{1 - (1 - mean) ** k:.4g}, got {pass_at:g}"
        )
    log = brentq(lambda log: _pass_at(k, mean, log) - pass_at, *CONCENTRATIONS)
    return mean * math.exp(log), (1 - mean) * math.exp(log)


def _lowered(k: int, base: tuple[float, float], pass_at: float) -> tuple[float, float]:
    """Returns a beta distribution with the concentration of the base and a lower mean. Raises
    ValueError if the base cannot lose so much."""
    if pass_at <= 0:
        raise ValueError("the loss must be below pass@k of the base")
    log = math.log(sum(base))
    mean = brentq(lambda mean: _pass_at(k, mean, log) - pass_at, 1e-12, base[0] / sum(base))
    return mean * sum(base), (1 - mean) * sum(base)


def _pass_at(k: int, mean: float, log_concentration: float) -> float:
    """Returns E[1 - (1-p)^k] = 1 - B(a, b+k) / B(a, b) of a beta distribution."""
    a, b = mean * math.exp(log_concentration), (1 - mean) * math.exp(log_concentration)
    return float(-np.expm1(betaln(a, b + k) - betaln(a, b)))
