"""The criterion: is a token's label better predicted by runs that have not seen it than by the
base, by more than chance?

The gain of a token is log((h + f) / (b + f)) in nats, with b the probability of its label under the
base, h the mean of its probabilities under the held-out runs and f the floor. A ratio of h and b
alone would call a rise from 1e-9 to 1e-6 a gain.

One token's label is one draw: however many runs there are, a coin flip between three branches
agrees with them in a third of the cases. The gain is therefore compared with its distribution over
*planted coin flips*: the same runs on the same prompts, but with responses that the base drew. With
n planted tokens of a similar b, of which c have at least this gain, p = (1 + c) / (n + 1), and the
token is learnable if p is at most the error rate (a conformal p-value, Vovk et al. 2005: at most
this share of coin flips is called learnable, whatever the distribution, if planted and real coin
flips are exchangeable). Training on the tokens that other data makes predictable is the idea of
arXiv 2206.07137 (reducible held-out loss) and 2404.07965 (selective language modelling); here it
has an error rate, and the other tokens keep the base's distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.study import LearnabilityConfig
from forkdiv.data.token_table import TokenClass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Units = NDArray[np.int64]

MOST_BINS, LEAST_IN_BIN = 10, 200
TINY = 1e-300  # below it, a probability has no logarithm


@dataclass(frozen=True)
class UnitEvidence:
    """Probabilities of units (tokens, words or lines): under the base (units,) and under each
    held-out run (units, runs). `unit_of` (tokens,) is the unit of each token, not decreasing."""

    unit_of: Units
    base: Floats
    runs: Floats

    @classmethod
    def of(cls, unit_of: Units, base: Floats, runs: Floats) -> UnitEvidence:
        """Multiplies the probabilities of the tokens of each unit."""
        starts = np.flatnonzero(np.diff(unit_of, prepend=-1))
        if len(starts) == len(unit_of):
            return cls(unit_of, base, runs)
        log = np.log(np.maximum(np.column_stack([base, runs]), TINY))
        product = np.exp(np.add.reduceat(log, starts, axis=0))
        return cls(unit_of, product[:, 0], product[:, 1:])

    def gains(self, floor: float) -> Floats:
        """Returns the gain of each unit over the base, in nats."""
        gains: Floats = np.log((self.runs.mean(axis=1) + floor) / (self.base + floor))
        return gains


@dataclass(frozen=True)
class Criterion:
    """The smallest gain of a learnable unit, by the base's probability of its label: `thresholds`
    (bins,) of the bins that `edges` (bins − 1,) separate. `planted` counts the coin flips that they
    were taken from, 0 if there were none."""

    edges: Floats
    thresholds: Floats
    planted: int

    def learnable(self, base: Floats, gains: Floats) -> Bools:
        found: Bools = gains >= self.thresholds[np.searchsorted(self.edges, base, side="right")]
        return found


def fixed(config: LearnabilityConfig) -> Criterion:
    """Returns the criterion without planted coin flips: a gain of `config.gain`."""
    return Criterion(np.zeros(0), np.array([config.gain]), 0)


def calibrated(base: Floats, gains: Floats, config: LearnabilityConfig) -> Criterion:
    """Returns the criterion that calls at most `config.error_rate` of coin flips learnable, from
    planted ones with these probabilities under the base and gains.

    Coin flips that the base knows are left out. The thresholds are at least `config.gain`; that of
    a bin with too few coin flips to show the error rate is infinite.
    """
    tested = base < config.known
    base, gains = base[tested], gains[tested]
    bins = int(np.clip(len(base) // LEAST_IN_BIN, 1, MOST_BINS))
    edges = np.unique(np.quantile(base, np.arange(1, bins) / bins)) if len(base) else np.zeros(0)
    number = np.searchsorted(edges, base, side="right")
    thresholds = [
        max(_threshold(gains[number == at], config.error_rate), config.gain)
        for at in range(len(edges) + 1)
    ]
    return Criterion(edges, np.array(thresholds), len(base))


def _threshold(gains: Floats, error_rate: float) -> float:
    """Returns the smallest gain with a conformal p-value of at most the error rate."""
    n = len(gains)
    above = int(np.floor(error_rate * (n + 1))) - 1  # planted gains that may reach it
    if above < 0:
        return float("inf")
    # of equal gains, all reach it: the threshold lies just above the largest that must not
    return float(np.nextafter(np.sort(gains)[n - 1 - above], np.inf))


def measured_error(
    rows: Units, base: Floats, gains: Floats, config: LearnabilityConfig
) -> tuple[int, int]:
    """Returns how many of how many planted coin flips a criterion calls learnable that was
    calibrated on other rows: each half of the `rows` (units,) on the other half."""
    wrong = tested = 0
    for half in (0, 1):
        test = (rows % 2 == half) & (base < config.known)
        criterion = calibrated(base[rows % 2 != half], gains[rows % 2 != half], config)
        wrong += int(criterion.learnable(base[test], gains[test]).sum())
        tested += int(test.sum())
    return wrong, tested


def classes(
    evidence: UnitEvidence, token_base: Floats, criterion: Criterion, config: LearnabilityConfig
) -> NDArray[np.uint8]:
    """Returns the class of each token, uint8 (tokens,).

    A unit that cannot be learned leaves only its first token that the base does not know to the
    base: there its branches differ, and what follows is determined by the choice.
    """
    learnable = criterion.learnable(evidence.base, evidence.gains(config.floor))
    return with_masked(evidence, token_base, ~learnable & (evidence.base < config.known), config)


def with_masked(
    evidence: UnitEvidence, token_base: Floats, masked_units: Bools, config: LearnabilityConfig
) -> NDArray[np.uint8]:
    """Returns the classes of tokens if exactly the units `masked_units` cannot be learned."""
    unit_of = np.unique(evidence.unit_of, return_inverse=True)[1]
    known = token_base >= config.known
    candidates = np.flatnonzero(masked_units[unit_of] & ~known)
    first = np.unique(unit_of[candidates], return_index=True)[1]
    chosen = candidates[first]
    out = np.where(known, TokenClass.KNOWN, TokenClass.LEARNABLE).astype(np.uint8)
    plausible = token_base[chosen] >= config.floor
    out[chosen] = np.where(plausible, TokenClass.INDECIPHERABLE, TokenClass.ARBITRARY)
    return out


def as_json(criterion: Criterion) -> dict[str, Any]:
    """Returns the thresholds in plain values; None where nothing is called learnable."""
    return {
        "planted_coin_flips": criterion.planted,
        "base_probability_edges": criterion.edges.tolist(),
        "thresholds_nats": [x if np.isfinite(x) else None for x in criterion.thresholds.tolist()],
    }
