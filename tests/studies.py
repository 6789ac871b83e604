"""Many simulated studies at once, for the tests of intervals: populations of problems by ability,
and how often limits hold the mean over the population."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri

from forkdiv.coverage.stats import bootstrap_weights, exact_pass_at_k, pass_at_k
from forkdiv.coverage.stats.intervals import confidence_at_once
from forkdiv.coverage.stats.score_interval import Moments, limits

Floats = NDArray[np.float64]
Ability = Callable[[Floats], Floats]  # the quantiles of p over the population
SAMPLES, KS = 64, np.array([1, 4, 16, 64])
PASS_AT = pass_at_k(SAMPLES, np.arange(SAMPLES + 1)[:, None], KS)
CONFIDENCE, REPLICATES, AT_ONCE = 0.95, 300, 250


def beta(a: float, b: float) -> Ability:
    z = np.linspace(-12, 12, 40_001)  # inverting anew for millions of draws takes minutes
    quantiles = betaincinv(a, b, ndtr(z))
    return lambda u: np.interp(ndtri(np.clip(u, 1e-15, 1 - 1e-15)), z, quantiles)


def mixture(*parts: tuple[float, float, float]) -> Ability:
    """Each a weight and the ends of a uniform; equal ends are a mass."""
    weights, low, high = np.array(parts).T
    edges = np.cumsum(weights)

    def quantiles(u: Floats) -> Floats:
        at = np.minimum(np.searchsorted(edges, u), len(parts) - 1)
        within = (u - edges[at] + weights[at]) / weights[at]
        return np.asarray(low[at] + (high - low)[at] * np.clip(within, 0, 1))

    return quantiles


ABILITIES: dict[str, Ability] = {
    "beta(2,2)": beta(2, 2),
    "beta(.3,.3)": beta(0.3, 0.3),
    "beta(.5,3)": beta(0.5, 3),
    "0, 1 and between": mixture((0.3, 0, 0), (0.4, 0, 1), (0.3, 1, 1)),
    "ceiling beta(20,.4)": beta(20, 0.4),
    "ceiling beta(2,.05)": beta(2, 0.05),
    "ceiling, 3% hard": mixture((0.03, 0, 0.1), (0.97, 1, 1)),
    "ceiling, 10% open": mixture((0.1, 0, 1), (0.9, 0.98, 1)),
    "floor beta(.1,5)": beta(0.1, 5),
    "floor, 3% open": mixture((0.97, 0, 0), (0.03, 0, 1)),
    "floor, all small": mixture((1.0, 0.002, 0.012)),
}


@dataclass(frozen=True)
class Population:
    """Of one or more strata of equal size: (base, tuned) abilities, tuned None for a single
    model, and how base and tuned go together (of normal scores)."""

    name: str
    strata: tuple[tuple[Ability, Ability | None], ...]
    correlation: float = 0.0

    @property
    def least(self) -> float:
        return 0.0 if self.strata[0][1] is None else -1.0

    def truth(self) -> Floats:
        """Mean over the population of 1-(1-p)^k, or of its difference; shape (ks,)."""
        u = (np.arange(1_000_000) + 0.5) / 1_000_000
        total = np.zeros(len(KS))
        for base, tuned in self.strata:
            means = [
                np.array([exact_pass_at_k(one(u), k).mean() for k in KS])
                for one in (base, tuned)
                if one is not None
            ]
            total += means[0] if len(means) == 1 else means[1] - means[0]
        return total / len(self.strata)

    def names(self, problems: int) -> list[str]:
        return [str(i % len(self.strata)) for i in range(problems)]

    def draw(self, random: np.random.Generator, studies: int, problems: int) -> Floats:
        """pass@k of sampled problems, or its difference; shape (studies, problems, ks)."""
        out = np.empty((studies, problems, len(KS)))
        count = len(self.strata)
        for i, (base, tuned) in enumerate(self.strata):
            shape = (studies, len(range(i, problems, count)))
            z = random.standard_normal(shape)
            values = _sampled(random, base(ndtr(z)))
            if tuned is not None:
                own = random.standard_normal(shape)
                z = self.correlation * z + np.sqrt(1 - self.correlation**2) * own
                values = _sampled(random, tuned(ndtr(z))) - values
            out[:, i::count] = values
        return out


def _sampled(random: np.random.Generator, p: Floats) -> Floats:
    return PASS_AT[random.binomial(SAMPLES, p)]


@dataclass(frozen=True)
class Held:
    """Shares of studies whose limits held the truth: at each k, with the share of trusted ones,
    and for all k at once."""

    alone: Floats
    trusted: Floats
    at_once: float


def simulate(population: Population, problems: int, studies: int, seed: int) -> Held:
    random = np.random.default_rng(seed)
    truth, names = population.truth(), population.names(problems)
    # the same weights in every study: they do not know the values
    weights = bootstrap_weights(names, REPLICATES, seed)
    alone, trusted, at_once = np.zeros(len(KS)), np.zeros(len(KS)), 0
    for start in range(0, studies, AT_ONCE):
        values = population.draw(random, min(AT_ONCE, studies - start), problems)
        found = Moments.of(values, names)
        jointly = [confidence_at_once(one, CONFIDENCE) for one in weights @ values]
        low, high = limits(found, CONFIDENCE, population.least)
        alone += ((low <= truth) & (truth <= high)).sum(axis=0)
        low, high = limits(found, np.array(jointly)[:, None], population.least)
        at_once += int(((low <= truth) & (truth <= high)).all(axis=1).sum())
        trusted += (~found.cautious).sum(axis=0)
    return Held(alone / studies, trusted / studies, at_once / studies)


def _single() -> list[Population]:
    made = [Population(name, ((one, None),)) for name, one in ABILITIES.items()]
    halves = (
        (ABILITIES["ceiling, 10% open"], None),
        (ABILITIES["beta(.5,3)"], None),
    )
    return [*made, Population("halves: ceiling and open", halves)]


def _paired() -> list[Population]:
    by = ABILITIES
    pairs = [
        ("beta(2,2)", beta(0.3, 0.3), 0.8),
        ("beta(2,2)", by["beta(2,2)"], 1.0),
        ("beta(.3,.3)", by["beta(.5,3)"], 0.5),
        ("beta(2,2)", by["0, 1 and between"], 0.95),
        ("ceiling beta(20,.4)", beta(2, 1), 0.6),
        ("ceiling beta(20,.4)", beta(6, 0.3), 0.8),
        ("ceiling beta(2,.05)", beta(2, 0.2), 0.9),
        ("ceiling beta(20,.4)", by["ceiling beta(20,.4)"], 0.8),
        ("ceiling, 3% hard", by["ceiling, 3% hard"], 0.5),
        ("ceiling, 10% open", by["ceiling, 10% open"], 0.0),
        ("floor beta(.1,5)", by["floor beta(.1,5)"], 0.7),
        ("floor beta(.1,5)", by["beta(.5,3)"], 0.7),
    ]
    known = {id(one): name for name, one in by.items()}
    extra = iter(["beta(.3,.3)", "beta(2,1)", "beta(6,.3)", "beta(2,.2)"])
    made = [
        Population(
            f"{base} to {known.get(id(tuned)) or next(extra)}", ((by[base], tuned),), together
        )
        for base, tuned, together in pairs
    ]
    halves = (
        (by["beta(2,2)"], by["ceiling beta(20,.4)"]),
        (by["beta(2,2)"], by["beta(.3,.3)"]),
    )
    return [*made, Population("halves: one gains, one loses", halves, 0.7)]


SINGLE, PAIRED = _single(), _paired()
# tuned has a rare kind of problem of which many a study draws none: no method can know
UNSEEN = Population(
    "floor, a rare kind opens",
    ((ABILITIES["floor, all small"], ABILITIES["floor, 3% open"]),),
)
