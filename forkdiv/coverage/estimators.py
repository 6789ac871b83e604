"""pass@k: from counts, from counts of fixed strata, and exactly from probabilities."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from forkdiv.coverage.checked import Counts, Floats, probabilities, sizes, whole, within


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """Unbiased estimate of the chance that at least one of k samples is correct.

    `n` samples of which `c` correct, drawn without replacement: 1 - C(n-c, k) / C(n, k)
    (Chen et al. 2021, arXiv 2107.03374), in logarithms so that n = 100,000 is fine. The three
    broadcast. Where n < k nothing is known: NaN, with a RuntimeWarning.

    Raises ValueError, naming the rows, for counts that are fractional, negative, or c > n, and
    for k < 1.
    """
    n_, c_, k_ = np.broadcast_arrays(whole("n", n), whole("c", c), sizes(k))
    within(n_, c_)
    log_none = _log_none(n_, c_, k_)
    _warn_undefined(np.isnan(log_none))
    # minimum: rounding must not push a probability of no hit above 1
    return np.asarray(-np.expm1(np.minimum(log_none, 0.0)))


def pass_at_k_stratified(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """pass@k of samples that were forced through fixed strata.

    The chance is 1 - prod_s C(n_s-c_s, k_s) / C(n_s, k_s).

    The last axis of `n`, `c` and `k` is that of the strata: n_s samples of stratum s, of which
    c_s correct, and the k_s of the k draws that it gets (see `deal`). NaN, with a
    RuntimeWarning, where a stratum has fewer samples than draws.

    Only for strata that are the same whatever is sampled, such as the first tokens of a given
    list. Strata that were themselves found by sampling are random and share prefixes: their
    samples depend on each other, and pass@k has to be estimated from independent whole trees.

    Raises ValueError as `pass_at_k` does; a stratum may have k_s = 0.
    """
    n_, c_, k_ = np.broadcast_arrays(whole("n", n), whole("c", c), whole("k", k))
    within(n_, c_)
    log_none = _log_none(n_, c_, k_)
    _warn_undefined(np.isnan(log_none).any(axis=-1))
    return np.asarray(-np.expm1(np.minimum(log_none.sum(axis=-1), 0.0)))


def deal(k: int, strata: int) -> Counts:
    """How k draws are dealt over `strata`, round-robin from the first; sums to k."""
    if k < 1 or strata < 1:
        raise ValueError(f"k and strata must be at least 1, got k={k}, strata={strata}")
    return k // strata + (np.arange(strata) < k % strata).astype(np.int64)


def exact_pass_at_k(p: ArrayLike, k: ArrayLike) -> Floats:
    """1 - (1-p)^k for known probabilities `p` of a correct response; the two broadcast."""
    with np.errstate(divide="ignore"):
        none = np.expm1(sizes(k) * np.log1p(-probabilities(p)))
    return np.asarray(-none)


def _log_none(n: Counts, c: Counts, k: Counts) -> Floats:
    """log of C(n-c, k) / C(n, k); NaN where n < k."""
    plain = (n - c >= k) & (n >= k)
    wrong = np.where(plain, n - c, k)  # any value with a defined logarithm where unused
    total = np.where(plain, n, k)
    value = (
        gammaln(wrong + 1) + gammaln(total - k + 1) - gammaln(wrong - k + 1) - gammaln(total + 1)
    )
    return np.where(n < k, np.nan, np.where(plain, value, -np.inf))


def _warn_undefined(undefined: ArrayLike) -> None:
    unknown = np.asarray(undefined)
    if np.any(unknown):
        warnings.warn(
            f"pass@k is undefined for fewer than k samples: {int(unknown.sum())} of "
            f"{unknown.size} values are NaN",
            RuntimeWarning,
            stacklevel=3,
        )
