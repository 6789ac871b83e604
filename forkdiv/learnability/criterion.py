"""The criterion: is a token's label better predicted by runs that have not seen it than by the
base, by more than chance?

The *gain* of a token v is g(v) = log((h + f) / (b + f)) in nats, with b its probability under the
base, h the mean of its probabilities under the held-out runs and f the floor: a ratio of h and b
alone would call a rise from 1e-9 to 1e-6 a gain. Its *share of the possible gain* is
s(v) = g(v) / log((1 + f) / (b + f)), at most 1, so that a base of 0.8 can be gained on too. A label
y is learnable if s(y) reaches a threshold and g(y) is at least `gain`.

One label is one draw: however many runs there are, a coin flip between three branches agrees with
them in a third of the cases, and the K/2 predictions of a token depend on each other. So the error
is not estimated from the spread of a token's predictions but from *confident misses*. Let S be the
tokens whose shares reach the threshold at some position, and B their probability under the base. If
the label there is a coin flip, drawn as the base gives it, it is in S with probability B and not
with 1 − B. Each label that is not in S, counted B / (1 − B) times, therefore stands for the coin
flips that look learnable by luck: their sum F has the same expectation as the number of those. A
rule that the runs get wrong also counts, so that F is rather too large. The threshold is the
smallest for which (1 + F) / (number called learnable) is at most the error rate, as in the
target-decoy method of proteomics (Elias and Gygi 2007) and the knockoff filter (arXiv 1404.5609).

Training on the tokens that other data makes predictable is the idea of arXiv 2206.07137 (reducible
held-out loss) and 2404.07965 (selective language modelling); here it has an error rate, and the
other tokens keep the base's distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.study import LearnabilityConfig
from forkdiv.data.token_table import LEFT_TO_THE_BASE, BaseDistribution, TokenClass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Units = NDArray[np.int64]

GRID = np.linspace(0.0, 1.0, 101)
TINY = 1e-300  # below it, a probability has no logarithm
MOST = 0.99  # of B: a position at which the base is surer tells nothing about coin flips


def gains(base: Floats, heldout: Floats, floor: float) -> Floats:
    """Returns the gain in nats; `heldout` is the mean over the runs."""
    found: Floats = np.log((heldout + floor) / (base + floor))
    return found


def shares(base: Floats, gain: Floats, floor: float) -> Floats:
    """Returns the share of the possible gain."""
    found: Floats = gain / np.log((1 + floor) / (base + floor))
    return found


@dataclass(frozen=True)
class Choices:
    """Every response token as a choice: the probability of its label under the base and its mean
    under the held-out runs (tokens,), and of the base's likely tokens the mean under these runs
    (entries of `likely`,)."""

    base: Floats
    heldout: Floats
    likely: BaseDistribution
    likely_heldout: Floats

    def open_positions(self, known: float) -> Bools:
        """Returns the positions at which the base gives no token at least `known`. It does not
        depend on the labels, so that labels of coin flips are there as the base gives them."""
        starts = self.likely.starts
        most = np.zeros(len(self.base))
        full = np.diff(starts) > 0
        most[full] = np.maximum.reduceat(self.likely.p, starts[:-1][full])
        return most < known


@dataclass(frozen=True)
class Criterion:
    """The smallest share of the possible gain, and the smallest gain, of a learnable token.

    `threshold` is infinite if none has the error rate. `called` open positions are called
    learnable, of `of`, and `false` of them are estimated to be coin flips.
    """

    threshold: float
    gain: float
    floor: float
    called: int
    of: int
    false: float

    def learnable(self, base: Floats, heldout: Floats) -> Bools:
        gain = gains(base, heldout, self.floor)
        return self._passes(base, gain)

    def _passes(self, base: Floats, gain: Floats) -> Bools:
        found: Bools = (shares(base, gain, self.floor) >= self.threshold) & (gain >= self.gain)
        return found

    def as_json(self) -> dict[str, Any]:
        """Returns plain values; the threshold is None if nothing can be called learnable."""
        return {
            "threshold": self.threshold if np.isfinite(self.threshold) else None,
            "least_gain_nats": self.gain,
            "open_tokens": self.of,
            "called_learnable": self.called,
            "coin_flips_among_them": round(self.false, 3),
            "coin_flips_share": round(self.false / self.called, 6) if self.called else None,
        }


def calibrated(choices: Choices, config: LearnabilityConfig) -> Criterion:
    """Returns the criterion whose estimated error is at most `config.error_rate`."""
    opened = choices.open_positions(config.known)
    for threshold in GRID:
        found = _estimated(choices, opened, float(threshold), config)
        if found.called and (1 + found.false) / found.called <= config.error_rate:
            return found
    nothing = float("inf")
    return Criterion(nothing, config.gain, config.floor, 0, int(opened.sum()), 0.0)


def _estimated(
    choices: Choices, opened: Bools, threshold: float, config: LearnabilityConfig
) -> Criterion:
    """Returns the criterion with this threshold, with the coin flips among what it calls learnable
    as confident misses show them."""
    plain = Criterion(threshold, config.gain, config.floor, 0, int(opened.sum()), 0.0)
    hit = plain.learnable(choices.base, choices.heldout)
    p = choices.likely.p.astype(np.float64)
    confident = plain.learnable(p, choices.likely_heldout)
    position = np.repeat(np.arange(len(hit)), np.diff(choices.likely.starts))
    of_confident = np.bincount(position, p * confident, len(hit))
    missed = opened & ~hit & (of_confident < MOST)
    false = float((of_confident / (1 - of_confident))[missed].sum())
    return Criterion(
        threshold, config.gain, config.floor, int((hit & opened).sum()), plain.of, false
    )


@dataclass(frozen=True)
class UnitEvidence:
    """Probabilities of units (tokens, words or lines): under the base (units,), and the mean under
    the held-out runs (units,). `unit_of` (tokens,) is the unit of each token, not decreasing."""

    unit_of: Units
    base: Floats
    heldout: Floats

    @classmethod
    def of(cls, unit_of: Units, base: Floats, runs: Floats) -> UnitEvidence:
        """Multiplies the probabilities of the tokens of each unit; `runs` are those under each run
        (tokens, runs)."""
        starts = np.flatnonzero(np.diff(unit_of, prepend=-1))
        if len(starts) == len(unit_of):
            return cls(unit_of, base, runs.mean(axis=1))
        log = np.log(np.maximum(np.column_stack([base, runs]), TINY))
        product = np.exp(np.add.reduceat(log, starts, axis=0))
        return cls(unit_of, product[:, 0], product[:, 1:].mean(axis=1))


def classes(
    evidence: UnitEvidence, token_base: Floats, criterion: Criterion, config: LearnabilityConfig
) -> NDArray[np.uint8]:
    """Returns the class of each token, uint8 (tokens,).

    A unit that cannot be learned leaves only its first token that the base does not know to the
    base: there its branches differ, and what follows is determined by the choice.
    """
    learnable = criterion.learnable(evidence.base, evidence.heldout)
    masked = ~learnable & (evidence.base < config.known)
    return with_masked(evidence.unit_of, token_base, masked, config)


def with_masked(
    unit_of: Units, token_base: Floats, masked_units: Bools, config: LearnabilityConfig
) -> NDArray[np.uint8]:
    """Returns the classes of tokens if exactly the units `masked_units` cannot be learned."""
    number = np.unique(unit_of, return_inverse=True)[1]
    known = token_base >= config.known
    candidates = np.flatnonzero(masked_units[number] & ~known)
    chosen = candidates[np.unique(number[candidates], return_index=True)[1]]
    out = np.where(known, TokenClass.KNOWN, TokenClass.LEARNABLE).astype(np.uint8)
    plausible = token_base[chosen] >= config.floor
    out[chosen] = np.where(plausible, *LEFT_TO_THE_BASE)
    return out
