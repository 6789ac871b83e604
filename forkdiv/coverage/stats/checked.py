"""What the estimators take: counts and probabilities, each checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
NAMED = 3  # offending values that an error names


def whole(name: str, value: ArrayLike) -> Counts:
    """`value` as int64. Raises ValueError naming what is fractional, negative or not finite."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be whole numbers of at least 0, got {value!r}")
    wrong = ~np.isfinite(array) | (array != np.floor(array)) | (array < 0)
    if np.any(wrong):
        raise ValueError(
            f"{name} must be whole numbers of at least 0, got {_named(wrong, {name: array})}"
        )
    return array.astype(np.int64)


def within(n: Counts, c: Counts) -> None:
    """Raise ValueError naming the rows in which more are correct than there are samples."""
    if np.any(c > n):
        raise ValueError(f"c must not exceed n, got {_named(c > n, {'c': c, 'n': n})}")


def sizes(k: ArrayLike) -> Counts:
    """`k` as int64. Raises ValueError for one below 1."""
    found = whole("k", k)
    if np.any(found < 1):
        raise ValueError(f"k must be at least 1, got {_named(found < 1, {'k': found})}")
    return found


def probabilities(p: ArrayLike) -> Floats:
    """`p` as float64; sums of float32 steps may pass 1 by rounding and are cut there."""
    array = np.asarray(p, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 1 + 1e-6)):
        raise ValueError(f"probabilities lie in [0, 1], got {array.min()} to {array.max()}")
    return np.minimum(array, 1.0)


def _named(wrong: NDArray[np.bool_], values: dict[str, NDArray[np.generic]]) -> str:
    """The first offending rows with their values: `c=9 n=8 in row 3`."""
    places = np.argwhere(wrong)
    said = []
    for place in places[:NAMED]:
        at = tuple(place)
        text = " ".join(f"{name}={array[at].item()}" for name, array in values.items())
        row = ", ".join(map(str, at))
        said.append(f"{text} in row {row}" if row else text)
    more = f" and in {len(places) - NAMED} more" if len(places) > NAMED else ""
    return ", ".join(said) + more
