"""majority@k: the probability that the most frequent answer of k samples is correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from forkdiv.coverage.stats.checked import Floats

DRAWS = 1000


def majority_at_k(
    n: int,
    right: Mapping[int, int],
    wrong: Mapping[int, int],
    ks: Sequence[int],
    draws: int = DRAWS,
    seed: int = 0,
) -> Floats:
    """Returns majority@k of one problem for each k, of shape (ks,).

    `right` and `wrong` have {times: number of distinct answers that were drawn so often}. k of the
    n samples are drawn without replacement; samples without a readable answer do not vote. Ties
    are broken at random; without any vote the result is not correct. Exact for k = 1 and k = n,
    and if no answer or every answer is right; otherwise the mean over `draws` seeded orders of the
    samples, with a standard error of at most 0.5 / sqrt(draws). Like pass@k, the estimate is
    unbiased for k new samples.

    NaN if n < k. Raises ValueError if there are more votes than samples.
    """
    counts = np.array([*_each(right), *_each(wrong)], dtype=np.int64)
    is_right = np.arange(len(counts)) < sum(right.values())
    if counts.sum() > n:
        raise ValueError(f"votes must not exceed samples, got {counts.sum()} votes and n={n}")
    values = np.array([_exact(n, counts, is_right, k) for k in ks])
    open_ks = [i for i, k in enumerate(ks) if np.isnan(values[i]) and k <= n]
    if open_ks:
        labels = np.repeat(np.arange(len(counts) + 1), [*counts, n - counts.sum()])
        random = np.random.default_rng(seed)
        orders = random.permuted(np.tile(labels, (draws, 1)), axis=1)
        for i in open_ks:
            votes = _tallied(orders[:, : ks[i]], len(counts) + 1)[:, :-1]
            values[i] = _won(votes, is_right).mean()
    return values


def _exact(n: int, counts: NDArray[np.int64], right: NDArray[np.bool_], k: int) -> float:
    """Returns the value if it needs no random draws, else NaN."""
    if n < k:
        return float("nan")
    if not right.any():
        return 0.0
    if k == 1:
        return float(counts[right].sum() / n)
    if k == n:
        return float(_won(counts[None, :], right)[0])
    if right.all():  # every vote is right: one vote among the k draws is enough
        without_vote = n - int(counts.sum())
        drawn = np.arange(k)
        return 1.0 - float(np.prod(np.maximum(without_vote - drawn, 0) / (n - drawn)))
    return float("nan")


def _tallied(labels: NDArray[np.int64], kinds: int) -> NDArray[np.int64]:
    """Returns the count of each label in each row, of shape (rows, kinds)."""
    rows = np.arange(len(labels))[:, None]
    return np.bincount((rows * kinds + labels).ravel(), minlength=len(labels) * kinds).reshape(
        len(labels), kinds
    )


def _won(votes: NDArray[np.int64], right: NDArray[np.bool_]) -> Floats:
    """Returns the share of right answers among the most frequent answers of each row."""
    most = votes.max(axis=1, keepdims=True)
    top = (votes == most) & (most > 0)
    return np.asarray((top & right).sum(axis=1) / np.maximum(top.sum(axis=1), 1))


def _each(seen: Mapping[int, int]) -> list[int]:
    """Returns the number of samples with each answer."""
    return [times for times, answers in sorted(seen.items()) for _ in range(answers)]
