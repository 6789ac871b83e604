"""What the estimators take: counts and probabilities, each checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def whole(name: str, value: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(value)
    whole = array.dtype.kind in "iuf" and np.all(np.isfinite(array) & (array == np.floor(array)))
    if not whole or np.any(array < 0):
        raise ValueError(f"{name} must be whole numbers of at least 0, got {value!r}")
    return array.astype(np.int64)


def probabilities(p: ArrayLike) -> Floats:
    """`p` as float64; sums of float32 steps may pass 1 by rounding and are cut there."""
    array = np.asarray(p, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 1 + 1e-6)):
        raise ValueError(f"probabilities lie in [0, 1], got {array.min()} to {array.max()}")
    return np.minimum(array, 1.0)
