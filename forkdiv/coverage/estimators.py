"""pass@k from counts, and exactly from probabilities."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from forkdiv.coverage.checked import Floats, probabilities, whole


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
    """Unbiased estimate of the chance that at least one of k samples is correct.

    `n` samples of which `c` correct, drawn without replacement: 1 - C(n-c, k) / C(n, k)
    (Chen et al. 2021, arXiv 2107.03374), in logarithms so that n = 100,000 is fine. The three
    broadcast. Where n < k nothing is known: NaN, with a RuntimeWarning.

    Raises ValueError for counts that are fractional, negative, or c > n, and for k < 1.
    """
    n_, c_, k_ = (whole(name, value) for name, value in (("n", n), ("c", c), ("k", k)))
    if np.any(k_ < 1):
        raise ValueError(f"k must be at least 1, got {k_.min()}")
    n_, c_, k_ = np.broadcast_arrays(n_, c_, k_)
    if np.any(c_ > n_):
        at = np.argmax(c_ > n_)
        raise ValueError(f"c must not exceed n, got c={c_.flat[at]} of n={n_.flat[at]} at {at}")
    unknown, certain = n_ < k_, (n_ - c_ < k_) & (n_ >= k_)
    if np.any(unknown):
        warnings.warn(
            f"pass@k is undefined for fewer than k samples: {int(unknown.sum())} of "
            f"{unknown.size} values are NaN",
            RuntimeWarning,
            stacklevel=2,
        )
    plain = ~(unknown | certain)
    wrong = np.where(plain, n_ - c_, k_)  # any value with a defined logarithm where unused
    total = np.where(plain, n_, k_)
    log_none = (
        gammaln(wrong + 1) + gammaln(total - k_ + 1) - gammaln(wrong - k_ + 1) - gammaln(total + 1)
    )
    # min: rounding must not push a probability of no hit above 1
    value = -np.expm1(np.minimum(log_none, 0.0))
    return np.where(unknown, np.nan, np.where(certain, 1.0, value))


def exact_pass_at_k(p: ArrayLike, k: ArrayLike) -> Floats:
    """1 - (1-p)^k for known probabilities `p` of a correct response; the two broadcast."""
    p_, k_ = probabilities(p), whole("k", k)
    if np.any(k_ < 1):
        raise ValueError(f"k must be at least 1, got {k_.min()}")
    with np.errstate(divide="ignore"):
        none = np.expm1(k_ * np.log1p(-p_))
    return np.asarray(-none)
