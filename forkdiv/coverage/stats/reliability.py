"""Metrics of reliability: how often a problem is solved, not only whether it is solved once.

pass@k is high as soon as one of k samples is right. Cover@tau and G-Pass@k ask for a share tau of
right samples instead, so they do not reward a model that guesses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from forkdiv.coverage.stats.checked import Counts, Floats, require_c_at_most_n, sizes, whole

MAX_TABLE = 2**22  # entries of the table of probabilities that is in memory at once


def required(tau: float, k: int) -> int:
    """Returns the number of right samples among k that reaches the share tau: ceil(tau k), at
    least 1.

    tau is taken as the decimal number that it is written as: in floating point, 0.07 times
    100 is above 7.
    Raises ValueError for tau outside (0, 1].
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau must be above 0 and at most 1, got {tau}")
    return max(math.ceil(Fraction(repr(float(tau))) * k), 1)


def cover_at(n: ArrayLike, c: ArrayLike, tau: float) -> Floats:
    """Returns Cover@tau of each problem: 1 if at least the share tau of its samples is right.

    Cover@tau is the share of problems whose success probability p is at least tau (Dragoi et al.
    2025, arXiv 2510.08325, G(tau) = mean over problems of 1[p >= tau]). p is estimated by c/n for
    `n` samples with `c` right ones, so each value is 1[c >= ceil(tau n)], which equals G-Pass@n.

    No estimate of 1[p >= tau] from n samples is unbiased: a problem with p near tau is counted on
    either side. The error decreases with n. Raises ValueError for counts that `pass_at_k` refuses,
    n = 0 and tau outside (0, 1].
    """
    n_, c_ = np.broadcast_arrays(sizes(n), whole("c", c))
    require_c_at_most_n(n_, c_)
    least = {int(size): required(tau, int(size)) for size in np.unique(n_)}
    thresholds = np.array([least[int(size)] for size in n_.ravel()]).reshape(n_.shape)
    return np.asarray(c_ >= thresholds, dtype=np.float64)


def g_pass_at_k(n: int, c: ArrayLike, k: int, tau: float) -> Floats:
    """Returns the unbiased estimate of the probability that at least the share tau of k samples is
    right, of the shape of `c`.

    For `n` samples with `c` right ones it is the tail of the hypergeometric distribution, the sum
    over j >= ceil(tau k) of C(c, j) C(n-c, k-j) / C(n, k) (Liu et al. 2024, arXiv 2412.13147).
    With tau <= 1/k it is pass@k, with tau = 1 the probability that all k are right. NaN if n < k.
    Raises ValueError for counts that `pass_at_k` refuses and tau outside (0, 1].
    """
    least = required(tau, k)
    return _expected(n, c, k, np.where(np.arange(k + 1) >= least, 1.0, 0.0))


def mg_pass_at_k(n: int, c: ArrayLike, k: int) -> Floats:
    """Returns the unbiased estimate of mG-Pass@k, the mean of G-Pass@k over tau from 0.5 to 1, of
    the shape of `c`.

    The paper (arXiv 2412.13147) sums: 2/k times the sum over i from ceil(k/2) + 1 to k of G-Pass@k
    with tau = i/k. That is the expectation of 2/k max(j - ceil(k/2), 0) for j right ones among k.
    Its largest value is 1 for even k and 1 - 1/k for odd k; it is 0 for k = 1. NaN if n < k.
    Raises ValueError for counts that `pass_at_k` refuses.
    """
    above_half = np.maximum(np.arange(k + 1) - math.ceil(k / 2), 0)
    return _expected(n, c, k, 2 * above_half / k)


def _expected(n: int, c: ArrayLike, k: int, value: Floats) -> Floats:
    """Returns the expectation of `value[j]`, j right samples among k drawn without replacement from
    n with c right ones."""
    (size,) = sizes([k])
    counts = whole("c", c)
    require_c_at_most_n(np.full(counts.shape, whole("n", n)), counts)
    if n < size:
        return np.full(counts.shape, np.nan)
    distinct, index = np.unique(counts, return_inverse=True)
    drawn = np.arange(k + 1)
    parts = [_chances(n, part, drawn) @ value for part in _parts(distinct, k + 1)]
    # rounding must not make a certain event exceed 1
    expected = np.clip(np.concatenate([*parts, np.zeros(0)]), 0.0, max(float(value.max()), 0.0))
    expected = np.where((distinct == n) & (value[-1] == 1), 1.0, expected)
    return np.asarray(expected[index].reshape(counts.shape))


def _chances(n: int, c: Counts, drawn: Counts) -> Floats:
    """Returns the hypergeometric probabilities of `drawn` right samples among k = drawn[-1], of
    shape (counts, k + 1)."""
    k = drawn[-1]
    right, rest = c[:, None], n - c[:, None]
    possible = (drawn <= right) & (k - drawn <= rest)
    j = np.where(possible, drawn, np.maximum(k - rest, 0))
    logs = _log_choose(right, j) + _log_choose(rest, k - j) - _log_choose(np.array(n), np.array(k))
    return np.where(possible, np.exp(logs), 0.0)


def _log_choose(n: Counts, k: Counts) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _parts(rows: Counts, columns: int) -> Iterator[Counts]:
    step = max(MAX_TABLE // columns, 1)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
