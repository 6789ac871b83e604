"""Whether sampled pass@k agrees with exact pass@k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from forkdiv.coverage.checked import Floats, probabilities
from forkdiv.coverage.estimators import pass_at_k


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
    p = probabilities(p)
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
