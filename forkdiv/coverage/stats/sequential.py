"""pass@k with early stopping: unbiased for a fixed stopping rule.

Samples of a problem are drawn in stages, until `enough` of them are correct. Counts under such a
rule are not binomial, and 1 - C(n-c, k) / C(n, k) is biased for them. But all orders of the samples
of a problem that lead to its end are equally likely. So the share of those orders whose first k
samples are all wrong is an unbiased estimate of (1-p)^k (Girshick, Mosteller & Savage 1946, Annals
of Mathematical Statistics 17, 13-23).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, logsumexp

from forkdiv.coverage.stats.checked import Counts, Floats, probabilities, sizes, whole


@dataclass(frozen=True)
class Design:
    """A stopping rule: the number of samples after each stage, ascending, and the number of correct
    samples that stops a problem. A single stage is the usual fixed number of samples.

    Raises ValueError for stages that do not ascend from 1, and for `enough` below 1.
    """

    stages: tuple[int, ...]
    enough: int = 1

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip((0, *self.stages), self.stages, strict=False))
        if not self.stages or not ascending or self.enough < 1:
            raise ValueError(
                "stages must ascend from at least 1 and enough must be at least 1, got "
                f"{self.stages} and {self.enough}"
            )

    def continues(self, n: int, c: int) -> bool:
        """Returns whether a problem with `c` of `n` samples correct gets another stage."""
        return n < self.stages[-1] and c < self.enough

    @cached_property
    def ends(self) -> tuple[Counts, Counts]:
        """Returns every (n, c) at which a problem can stop, as two arrays of shape (ends,)."""
        pairs = [
            (n, c)
            for at, n in enumerate(self.stages)
            for c in range(n + 1)
            if not self.continues(n, c) and self._ways[at][c] > -np.inf
        ]
        n, c = zip(*pairs, strict=True)
        return np.array(n), np.array(c)

    def pass_at_k(self, n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
        """Returns the unbiased estimate for problems that stopped at `n` samples, `c` of them
        correct, of shape (problems, ks). It is 1 for problems that stopped before k samples.

        Raises ValueError, which names the rows, for counts at which no problem can stop under this
        rule, and for k above the last stage, where the estimate is undefined.
        """
        ks = sizes(k).ravel()
        if np.any(ks > self.stages[-1]):
            raise ValueError(f"k must be at most the last stage, {self.stages[-1]}, got {ks.max()}")
        n_, c_ = np.broadcast_arrays(whole("n", n), whole("c", c))
        rows = self._rows(n_.ravel(), c_.ravel())
        return np.stack([self._estimates(int(k_value))[rows] for k_value in ks], axis=-1)

    def chances(self, p: ArrayLike) -> Floats:
        """Returns the probability that problems with probabilities `p` of a correct sample stop at
        each of `ends`, of shape (problems, ends); rows sum to 1."""
        n, c = self.ends
        at = np.searchsorted(self.stages, n)
        ways = np.array([self._ways[i][j] for i, j in zip(at, c, strict=True)])
        p = probabilities(p)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            right = np.where(c > 0, c * np.log(p), 0.0)
            wrong = np.where(n > c, (n - c) * np.log1p(-p), 0.0)
        return np.asarray(np.exp(ways + right + wrong))

    def _rows(self, n: Counts, c: Counts) -> NDArray[np.int64]:
        row_of = {
            end: row for row, end in enumerate(zip(*map(np.ndarray.tolist, self.ends), strict=True))
        }
        row_indices = [row_of.get(pair, -1) for pair in zip(n.tolist(), c.tolist(), strict=True)]
        wrong = [i for i, row in enumerate(row_indices) if row < 0]
        if wrong:
            listed = ", ".join(f"n={n[i]} c={c[i]} in row {i}" for i in wrong[:3])
            raise ValueError(
                f"counts at which no problem can stop under {self}: {listed} ({len(wrong)} rows)"
            )
        return np.array(row_indices, dtype=np.int64)

    def _estimates(self, k: int) -> Floats:
        """Returns the estimate of pass@k at each of `ends`."""
        n, c = self.ends
        all_wrong = self._orders(k)
        at = np.searchsorted(self.stages, n)
        logs = [all_wrong[i][j] - self._ways[i][j] for i, j in zip(at, c, strict=True)]
        log_none = np.where(c == 0, 0.0, logs)  # rounding would leave 1e-15
        return np.asarray(0.0 - np.expm1(np.minimum(log_none, 0.0)))

    @cached_property
    def _ways(self) -> list[Floats]:
        return self._orders(0)

    def _orders(self, k: int) -> list[Floats]:
        """Returns for each stage, of shape (n + 1,), the logarithm of the number of sample orders
        that lead to each number of correct samples without stopping earlier, with the first k
        samples all wrong."""
        out: list[Floats] = []
        previous, n_previous = np.zeros(1), 0
        for n in self.stages:
            drawn = n - max(n_previous, min(k, n))  # samples that may be right or wrong
            choices = _log_choose(drawn)
            continuing = previous[: self.enough]
            parts = np.full((len(continuing), n + 1), -np.inf)
            for c, ways in enumerate(continuing):
                parts[c, c : c + len(choices)] = (ways + choices)[: n + 1 - c]
            with np.errstate(divide="ignore"):
                values = logsumexp(parts, axis=0)
            out.append(np.asarray(values))
            previous, n_previous = out[-1], n
        return out


def doubling(samples: int, first: int, enough: int) -> Design:
    """Returns a design with stages of `first`, 2 `first`, 4 `first` … and `samples` samples."""
    stages = [first]
    while stages[-1] * 2 < samples:
        stages.append(stages[-1] * 2)
    return Design(tuple(sorted({min(stage, samples) for stage in [*stages, samples]})), enough)


def _log_choose(n: int) -> Floats:
    k = np.arange(n + 1)
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
