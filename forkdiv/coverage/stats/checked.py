"""Validation of the arguments of the estimators: counts and probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
MAX_NAMED = 3  # invalid values that an error lists


def whole(name: str, value: ArrayLike) -> Counts:
    """Returns `value` as int64. Raises ValueError for fractional, negative or infinite values."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be whole numbers of at least 0, got {value!r}")
    wrong = ~np.isfinite(array) | (array != np.floor(array)) | (array < 0)
    if np.any(wrong):
        raise ValueError(
            f"{name} must be whole numbers of at least 0, got {_describe(wrong, {name: array})}"
        )
    return array.astype(np.int64)


def require_c_at_most_n(n: Counts, c: Counts) -> None:
    """Raises ValueError, which names the rows, if more samples are correct than were drawn."""
    if np.any(c > n):
        raise ValueError(f"c must not exceed n, got {_describe(c > n, {'c': c, 'n': n})}")


def sizes(k: ArrayLike) -> Counts:
    """Returns `k` as int64. Raises ValueError for values below 1."""
    ks = whole("k", k)
    if np.any(ks < 1):
        raise ValueError(f"k must be at least 1, got {_describe(ks < 1, {'k': ks})}")
    return ks


def probabilities(p: ArrayLike) -> Floats:
    """Returns `p` as float64, clipped to 1: sums in float32 may exceed 1 by rounding.

    Raises ValueError for values outside [0, 1].
    """
    array = np.asarray(p, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 1 + 1e-6)):
        raise ValueError(f"probabilities must be in [0, 1], got {array.min()} to {array.max()}")
    return np.minimum(array, 1.0)


def _describe(wrong: NDArray[np.bool_], values: dict[str, NDArray[np.generic]]) -> str:
    """Lists the first invalid rows with their values: `c=9 n=8 in row 3`."""
    positions = np.argwhere(wrong)
    parts = []
    for position in positions[:MAX_NAMED]:
        index = tuple(position)
        text = " ".join(f"{name}={array[index].item()}" for name, array in values.items())
        row = ", ".join(map(str, index))
        parts.append(f"{text} in row {row}" if row else text)
    more = f" and in {len(positions) - MAX_NAMED} more" if len(positions) > MAX_NAMED else ""
    return ", ".join(parts) + more
