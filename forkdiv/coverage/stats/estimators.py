"""pass@k: from counts, from counts of fixed strata, from whole trees, and from probabilities."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from forkdiv.coverage.stats.checked import Counts, Floats, probabilities, sizes, whole, within


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


def pass_at_k_trees(first: ArrayLike, size: int, k: ArrayLike) -> Floats:
    """pass@k of samples that came in independent trees of `size`, in the order they were drawn.

    The last axis of `first` is that of the trees: the place of a tree's first correct sample,
    counted from 0, and `size` where it has none. Samples of one tree depend on each other, so
    the tree is the unit. With k = j * size + r, k samples are j whole trees and the first r
    samples of one more; over all ways to take those from the m trees there are,

        1 - mean_u [first_u >= r] * C(w_u, j) / C(m - 1, j)

    w_u being the whole trees without any correct sample beside tree u (r = 0: 1 - C(w, j) /
    C(m, j)). Unbiased for k samples of fresh trees. Shape of `first` without its last axis, then
    that of `k`; NaN, with a RuntimeWarning, where there are fewer trees than that takes.

    Raises ValueError for places that are fractional or beyond `size`, and for k < 1.
    """
    places, k_ = whole("first", first), sizes(k)
    within(np.full(places.shape, size), places)
    j, r = np.divmod(k_, size)
    m = places.shape[-1]
    shaped = places.reshape(*places.shape[:-1], *(1,) * k_.ndim, m)
    empty = (shaped >= size).sum(-1)
    late = ((shaped >= r[..., None]) & (shaped < size)).sum(-1)
    log_whole = _log_none(*np.broadcast_arrays(m, m - empty, j))
    others, fewer = np.full_like(j, max(m - 1, 0)), np.maximum(empty - 1, 0)
    # whole trees beside one that is begun: none of them correct, whether that one is or not
    beside = _log_none(*np.broadcast_arrays(others, others - empty, j))
    fewer_beside = _log_none(*np.broadcast_arrays(others, others - fewer, j))
    begun = (late * np.exp(beside) + empty * np.exp(fewer_beside)) / m
    with np.errstate(divide="ignore"):
        log_none = np.where(r == 0, log_whole, np.log(begun))
    log_none = np.where(j + (r > 0) > m, np.nan, log_none)
    _warn_undefined(np.isnan(log_none))
    return np.asarray(-np.expm1(np.minimum(log_none, 0.0)))


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


def exact_pass_at_k_stratified(p: ArrayLike, k: ArrayLike) -> Floats:
    """1 - prod_s (1-p_s)^k_s; the last axis of `p` and `k` is that of the strata."""
    wanted = whole("k", k)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(wanted == 0, 0.0, wanted * np.log1p(-probabilities(p)))
    return np.asarray(-np.expm1(parts.sum(-1)))


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
