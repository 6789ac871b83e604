"""Limits for a mean over problems, from the first four moments of what is averaged.

A score interval: the variance is taken to change with the mean, at the rate `kappa` at which the
problems' third moment says it does, so the limits of a skewed mean are not symmetrical. Of shares
near 0 or 1 these are Wilson's limits (1927) but for a term of order 1/n; without skewness they
are Student's. Degrees of freedom are those of the variance that remains once its correlation
with the mean is taken out (Satterthwaite 1946; Pearson's kurtosis - skewness^2 - 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from forkdiv.coverage.stats.checked import Floats

# Problems that must stand behind the spread. With fewer, the sample's own moments cannot be
# trusted: nominal 95 % limits covered as little as 77 % of simulated studies with 6 (see
# tests/soak/test_interval_coverage.py).
FEW = 10.0
# Below this spread over problems none stands out, whatever the moments of rounding errors say.
NO_SPREAD = 1e-3


@dataclass(frozen=True)
class Moments:
    """Of values of shape (..., problems, ks), each of shape (..., ks) but `problems`.

    `squares` is the sum of squared deviations from the stratum's mean, unbiased; `kappa` the sum
    of cubes over that of squares, which is how far the problems behind the spread stand off;
    `behind` how many such problems there are, (sum of squares)^2 over the sum of fourth powers:
    of zeros and rare ones it counts the ones. `rest` is the relative variance of `squares` that
    the mean does not explain. `lowest` and `highest` are those of the strata's means.
    """

    problems: int
    mean: Floats
    squares: Floats
    kappa: Floats
    behind: Floats
    rest: Floats
    lowest: Floats
    highest: Floats

    @classmethod
    def of(cls, values: Floats, strata: Sequence[str] | None = None) -> Moments:
        """Deviations are taken within strata, whose sizes are fixed by design."""
        count, ks = values.shape[-2:]
        names = np.zeros(count) if strata is None else np.asarray(strata)
        if len(names) != count:
            raise ValueError(f"one stratum per problem: got {len(names)} for {count} problems")
        total = {power: np.zeros((*values.shape[:-2], ks)) for power in (2, 3, 4)}
        unbiased, within, widest = (total[2].copy() for _ in range(3))
        lowest, highest = total[2] + np.inf, total[2] - np.inf
        for name in np.unique(names):
            part = values[..., names == name, :]
            size = part.shape[-2]
            centre = part.mean(axis=-2)
            lowest, highest = np.minimum(lowest, centre), np.maximum(highest, centre)
            widest = np.maximum(widest, np.ptp(part, axis=-2))
            off = part - centre[..., None, :]
            square = off * off
            two = square.sum(axis=-2)
            total[2] += two
            total[3] += (square * off).sum(axis=-2)
            total[4] += (square * square).sum(axis=-2)
            unbiased += two * (size / max(size - 1, 1))
            within += two * two / size
        flat = widest < NO_SPREAD
        two = np.where(flat, 1.0, total[2])
        four = np.where(flat, 1.0, total[4])
        rest = (four - within) / two**2 - total[3] ** 2 / two**3
        return cls(
            count,
            values.mean(axis=-2),
            np.where(flat, 0.0, unbiased),
            np.where(flat, 0.0, total[3] / two),
            np.where(flat, 0.0, two**2 / four),
            np.where(flat, 0.0, np.maximum(rest, 0.0)),
            lowest,
            highest,
        )

    @property
    def few(self) -> NDArray[np.bool_]:
        """Where the sample tells too little of how its mean varies."""
        return self.behind < FEW


def limits(found: Moments, confidence: float | Floats, least: float) -> tuple[Floats, Floats]:
    """Two-sided limits of shape (..., ks) for means of values in [`least`, 1]; `confidence`
    broadcasts against that shape.

    Where `found.few`, cautious ones: as though the population held a rare kind of problem at
    either end that the sample may have missed. They hold more often than `confidence` says.
    """
    quantile = ndtri(0.5 + confidence / 2)
    # 1e-9: as good as normal
    freedom = 2 / np.maximum(found.rest, 1e-9)
    student = np.asarray(stdtrit(freedom, 0.5 + confidence / 2), dtype=np.float64)
    # as though one more problem stood as far off, lest a small sample's variance be trusted
    squares = found.squares * (1 + found.rest)
    below, above = _step(student, found.kappa, squares, found.problems)
    far_below, _ = _step(quantile, least - found.highest, found.squares, found.problems)
    _, far_above = _step(quantile, 1 - found.lowest, found.squares, found.problems)
    low = found.mean + np.where(found.few, far_below, below)
    high = found.mean + np.where(found.few, far_above, above)
    return np.clip(low, least, found.mean), np.clip(high, found.mean, 1.0)


def _step(
    quantile: Floats | float, kappa: Floats, squares: Floats, problems: int
) -> tuple[Floats, Floats]:
    """From the mean to either limit d: the roots of (n d)^2 = q^2 (squares + n d kappa)."""
    shift = quantile * quantile * kappa / 2
    half = np.sqrt(quantile * quantile * squares + shift * shift)
    return (shift - half) / problems, (shift + half) / problems
