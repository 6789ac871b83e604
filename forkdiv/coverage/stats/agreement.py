"""Whether sampled pass@k agrees with exact pass@k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from forkdiv.coverage.stats.checked import Counts, Floats, probabilities
from forkdiv.coverage.stats.estimators import deal, pass_at_k
from forkdiv.coverage.stats.sequential import Design


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

    Both have shape (problems,), or (problems, strata) where samples were forced through fixed
    strata in turn: the n samples and the k draws of a problem are then dealt over them.

    The standard error is exact: c is binomial(n, p), so the variance of each problem's
    estimate is summed over every possible c, stratum by stratum. The limit leaves room for a few
    hundred looks. One sample's weight in the mean is granted on top, since a normal limit
    misjudges differences of less than one event.

    Raises ValueError where counts, probabilities or k do not fit together.
    """
    p = probabilities(p)
    if np.shape(counts) != p.shape or max(ks) > n:
        raise ValueError(
            f"agreement needs a probability per count and k up to n, got {np.shape(counts)} "
            f"counts, {p.shape} probabilities, k up to {max(ks)} of n={n}"
        )
    p = np.where(p < 1e-290, 0.0, p)  # scipy's binomial overflows next to the smallest doubles
    p, seen = p.reshape(len(p), -1), np.asarray(counts).reshape(len(p), -1)
    sizes = deal(n, p.shape[1])
    chances = [
        binom.pmf(np.arange(size + 1)[None, :], size, p[:, [s]]) for s, size in enumerate(sizes)
    ]
    worst = Agreement(0.0, int(ks[0]), True)
    for k in ks:
        # each stratum's chance that none of its draws is correct, for every possible count
        none = [_none(size, drawn) for size, drawn in zip(sizes, deal(k, len(sizes)), strict=True)]
        pairs = list(zip(chances, none, strict=True))
        expected = np.prod([chance @ one for chance, one in pairs], axis=0)
        squares = np.prod([chance @ one**2 for chance, one in pairs], axis=0)
        variance = np.maximum(squares - expected**2, 0.0)
        found = np.prod([one[seen[:, s]] for s, one in enumerate(none)], axis=0)
        one_event = min(1.0, k / n) / len(p)
        error = max(float(np.sqrt(variance.sum())) / len(p), one_event)
        z = float((expected.mean() - found.mean()) / error)
        if not abs(z) <= abs(worst.worst_z):
            worst = Agreement(z, int(k), abs(z) <= limit)
    return worst


def agreement_of_design(
    design: Design, n: Counts, c: Counts, p: Floats, ks: Sequence[int], limit: float = 5.0
) -> Agreement:
    """As `agreement`, for problems that stopped at `n` samples, `c` of them correct, under
    `design`; `n`, `c` and `p` have shape (problems,). The variance is summed over every end."""
    found = design.pass_at_k(n, c, ks)
    chances = design.chances(p)
    estimates = design.pass_at_k(*design.ends, ks)
    expected = chances @ estimates
    variance = np.maximum(chances @ estimates**2 - expected**2, 0.0)
    one_event = np.minimum(1.0, np.asarray(ks) / design.stages[0]) / len(p)
    errors = np.maximum(np.sqrt(variance.sum(axis=0)) / len(p), one_event)
    z = (found.mean(axis=0) - expected.mean(axis=0)) / errors
    at = int(np.argmax(np.abs(z)))
    return Agreement(float(z[at]), int(ks[at]), bool(abs(z[at]) <= limit))


def _none(n: int, k: int) -> Floats:
    """The estimate that none of k is correct, for every count of correct ones among n."""
    return 1 - pass_at_k(n, np.arange(n + 1), k) if k else np.ones(n + 1)
