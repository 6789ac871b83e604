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
    """The largest difference of sampled from exact pass@k over all k, in standard errors of the
    sampling."""

    worst_z: float
    at_k: int
    agrees: bool


def agreement(
    counts: NDArray[np.int64], n: int, p: Floats, ks: Sequence[int], limit: float = 5.0
) -> Agreement:
    """Tests whether `counts` of correct samples are consistent with probabilities `p`.

    Both have shape (problems,), or (problems, strata) for samples with forced first tokens: the n
    samples and the k draws of a problem are then assigned to the strata round-robin.

    The standard error is exact: c is binomial(n, p), so the variance of each problem's estimate is
    summed over every possible c, for each stratum. The default limit allows for a few hundred
    comparisons. The error is at least the weight of one sample in the mean, because the normal
    approximation fails for differences smaller than one event.

    Raises ValueError if the shapes of counts and probabilities differ, or k exceeds n.
    """
    p = probabilities(p)
    if np.shape(counts) != p.shape or max(ks) > n:
        raise ValueError(
            "counts and probabilities must have equal shapes and k must be at most n, got "
            f"{np.shape(counts)} counts, {p.shape} probabilities, k up to {max(ks)} with n={n}"
        )
    p = np.where(p < 1e-290, 0.0, p)  # scipy's binom.pmf overflows for probabilities near 1e-308
    p, observed_counts = p.reshape(len(p), -1), np.asarray(counts).reshape(len(p), -1)
    sizes = deal(n, p.shape[1])
    chances = [
        binom.pmf(np.arange(size + 1)[None, :], size, p[:, [s]]) for s, size in enumerate(sizes)
    ]
    worst = Agreement(0.0, int(ks[0]), True)
    for k in ks:
        # for each stratum and every possible count: the probability that no draw is correct
        none_correct = [
            _prob_none_correct(size, drawn)
            for size, drawn in zip(sizes, deal(k, len(sizes)), strict=True)
        ]
        pairs = list(zip(chances, none_correct, strict=True))
        expected = np.prod([chance @ values for chance, values in pairs], axis=0)
        squares = np.prod([chance @ values**2 for chance, values in pairs], axis=0)
        variance = np.maximum(squares - expected**2, 0.0)
        observed = np.prod(
            [values[observed_counts[:, s]] for s, values in enumerate(none_correct)], axis=0
        )
        one_event = min(1.0, k / n) / len(p)
        error = max(float(np.sqrt(variance.sum())) / len(p), one_event)
        z = float((expected.mean() - observed.mean()) / error)
        if not abs(z) <= abs(worst.worst_z):
            worst = Agreement(z, int(k), abs(z) <= limit)
    return worst


def agreement_of_design(
    design: Design, n: Counts, c: Counts, p: Floats, ks: Sequence[int], limit: float = 5.0
) -> Agreement:
    """Tests agreement like `agreement`, for samples drawn with early stopping.

    The problems stopped at `n` samples, `c` of them correct, under `design`; `n`, `c` and `p` have
    shape (problems,). The variance is summed over every possible end of the design.
    """
    observed = design.pass_at_k(n, c, ks)
    chances = design.chances(p)
    estimates = design.pass_at_k(*design.ends, ks)
    expected = chances @ estimates
    variance = np.maximum(chances @ estimates**2 - expected**2, 0.0)
    one_event = np.minimum(1.0, np.asarray(ks) / design.stages[0]) / len(p)
    errors = np.maximum(np.sqrt(variance.sum(axis=0)) / len(p), one_event)
    z = (observed.mean(axis=0) - expected.mean(axis=0)) / errors
    at = int(np.argmax(np.abs(z)))
    return Agreement(float(z[at]), int(ks[at]), bool(abs(z[at]) <= limit))


def _prob_none_correct(n: int, k: int) -> Floats:
    """Returns the estimated probability that none of k draws is correct, for every count of
    correct samples from 0 to n."""
    return 1 - pass_at_k(n, np.arange(n + 1), k) if k else np.ones(n + 1)
