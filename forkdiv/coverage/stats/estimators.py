"""pass@k from counts, from counts of fixed strata, from whole trees, and from probabilities."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from forkdiv.coverage.stats.checked import (
    Counts,
    Floats,
    probabilities,
    require_c_at_most_n,
    sizes,
    whole,
)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """Returns the unbiased estimate of the probability that at least one of k samples is correct.

    For `n` samples with `c` correct ones: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv
    2107.03374), computed in logarithms so that n = 100,000 is possible. The arguments broadcast.
    NaN, with a RuntimeWarning, if n < k.

    Raises ValueError, which names the rows, for fractional or negative counts, c > n, and k < 1.
    """
    n_, c_, k_ = np.broadcast_arrays(whole("n", n), whole("c", c), sizes(k))
    require_c_at_most_n(n_, c_)
    log_none = _log_none(n_, c_, k_)
    _warn_undefined(np.isnan(log_none))
    return _any(log_none)


def pass_at_k_stratified(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """Returns pass@k of samples from fixed strata: 1 - prod_s C(n_s-c_s, k_s) / C(n_s, k_s).

    The last axis of `n`, `c` and `k` is the strata: stratum s has n_s samples, c_s of them correct,
    and k_s of the k draws (see `deal`). NaN, with a RuntimeWarning, if a stratum has fewer samples
    than draws.

    Valid only for strata that do not depend on the samples, such as a fixed list of first tokens.
    Strata found by sampling are random and share prefixes: their samples depend on each other, and
    pass@k must be estimated from independent whole trees.

    Raises ValueError as `pass_at_k` does; k_s = 0 is allowed.
    """
    n_, c_, k_ = np.broadcast_arrays(whole("n", n), whole("c", c), whole("k", k))
    require_c_at_most_n(n_, c_)
    log_none = _log_none(n_, c_, k_)
    _warn_undefined(np.isnan(log_none).any(axis=-1))
    return _any(log_none.sum(axis=-1))


def pass_at_k_trees(first: ArrayLike, size: int, k: ArrayLike) -> Floats:
    """Returns pass@k of samples from independent trees of `size` samples, in sampling order.

    The last axis of `first` is the trees: the index of the first correct sample of a tree, from 0,
    or `size` if it has none. Samples of one tree depend on each other, so the tree is the unit.
    With k = j * size + r, k samples are j whole trees and the first r samples of one more tree.
    Averaged over all choices of these from the m trees,

        1 - mean_u [first_u >= r] * C(w_u, j) / C(m - 1, j)

    where w_u is the number of trees other than u without any correct sample (for r = 0:
    1 - C(w, j) / C(m, j)). Unbiased for k samples of new trees. The result has the shape of `first`
    without its last axis, followed by the shape of `k`. NaN, with a RuntimeWarning, if there are
    too few trees.

    Raises ValueError for indices that are fractional or beyond `size`, and for k < 1.
    """
    places, k_ = whole("first", first), sizes(k)
    require_c_at_most_n(np.full(places.shape, size), places)
    j, r = np.divmod(k_, size)
    m = places.shape[-1]
    shaped = places.reshape(*places.shape[:-1], *(1,) * k_.ndim, m)
    empty = (shaped >= size).sum(-1)
    first_correct_later = ((shaped >= r[..., None]) & (shaped < size)).sum(-1)
    log_whole = _log_none(*np.broadcast_arrays(m, m - empty, j))
    others, fewer = np.full_like(j, max(m - 1, 0)), np.maximum(empty - 1, 0)
    # no correct sample in j whole trees other than the partial one, which is correct or not
    none_beside = _log_none(*np.broadcast_arrays(others, others - empty, j))
    none_beside_fewer = _log_none(*np.broadcast_arrays(others, others - fewer, j))
    partial = (first_correct_later * np.exp(none_beside) + empty * np.exp(none_beside_fewer)) / m
    with np.errstate(divide="ignore"):
        log_none = np.where(r == 0, log_whole, np.log(partial))
    log_none = np.where(j + (r > 0) > m, np.nan, log_none)
    _warn_undefined(np.isnan(log_none))
    return _any(log_none)


def deal(k: int, strata: int) -> Counts:
    """Returns the number of draws of each stratum: k draws assigned round-robin from the first."""
    if k < 1 or strata < 1:
        raise ValueError(f"k and strata must be at least 1, got k={k}, strata={strata}")
    return k // strata + (np.arange(strata) < k % strata).astype(np.int64)


def exact_pass_at_k(p: ArrayLike, k: ArrayLike) -> Floats:
    """Returns 1 - (1-p)^k for known probabilities `p` of a correct response. Broadcasts."""
    with np.errstate(divide="ignore"):
        return _any(sizes(k) * np.log1p(-probabilities(p)))


def exact_pass_at_k_stratified(p: ArrayLike, k: ArrayLike) -> Floats:
    """Returns 1 - prod_s (1-p_s)^k_s; the last axis of `p` and `k` is the strata."""
    draws = whole("k", k)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(draws == 0, 0.0, draws * np.log1p(-probabilities(p)))
    return _any(parts.sum(-1))


def _any(log_none: Floats) -> Floats:
    """Returns 1 - exp(log_none): exactly 0 where no sample is correct (log_none = 0), not -0."""
    # minimum: rounding must not make the probability of no correct sample exceed 1
    return np.asarray(0.0 - np.expm1(np.minimum(log_none, 0.0)))


def _log_none(n: Counts, c: Counts, k: Counts) -> Floats:
    """Returns log(C(n-c, k) / C(n, k)); NaN if n < k."""
    defined = (n - c >= k) & (n >= k)
    wrong = np.where(defined, n - c, k)  # elsewhere unused: any value with a defined logarithm
    total = np.where(defined, n, k)
    value = (
        gammaln(wrong + 1) + gammaln(total - k + 1) - gammaln(wrong - k + 1) - gammaln(total + 1)
    )
    value = np.where(c == 0, 0.0, value)  # rounding of gammaln would leave 1e-15
    return np.where(n < k, np.nan, np.where(defined, value, -np.inf))


def _warn_undefined(undefined: ArrayLike) -> None:
    unknown = np.asarray(undefined)
    if np.any(unknown):
        warnings.warn(
            f"pass@k is undefined for fewer than k samples: {int(unknown.sum())} of "
            f"{unknown.size} values are NaN",
            RuntimeWarning,
            stacklevel=3,
        )
