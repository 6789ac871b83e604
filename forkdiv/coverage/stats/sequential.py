"""pass@k where a problem that is settled gets no more samples: unbiased for a stated stopping rule.

Samples of a problem are drawn in stages. After each stage it is left alone once `enough` of them
are correct. Counts under such a rule are no longer binomial, and 1 - C(n-c, k) / C(n, k) is biased
for them. But given where a problem stopped, all orders of its samples that lead there are equally
likely. So the share of those orders whose first k samples are all wrong is an unbiased estimate of
(1-p)^k (Girshick, Mosteller & Savage 1946, Annals of Mathematical Statistics 17, 13-23).
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
    """How many samples a problem has after each stage, ascending, and how many correct ones end
    it before the last one. One stage is the ordinary fixed number.

    Raises ValueError for stages that do not ascend from 1, and for `enough` below 1.
    """

    stages: tuple[int, ...]
    enough: int = 1

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip((0, *self.stages), self.stages, strict=False))
        if not self.stages or not ascending or self.enough < 1:
            raise ValueError(
                f"stages ascend from at least 1 and enough is at least 1, got {self.stages} and "
                f"{self.enough}"
            )

    def goes_on(self, n: int, c: int) -> bool:
        """Whether a problem with `c` of `n` samples correct is owed another stage."""
        return n < self.stages[-1] and c < self.enough

    @cached_property
    def ends(self) -> tuple[Counts, Counts]:
        """Every (n, c) at which a problem can stop; two arrays of shape (ends,)."""
        found = [
            (n, c)
            for at, n in enumerate(self.stages)
            for c in range(n + 1)
            if not self.goes_on(n, c) and self._ways[at][c] > -np.inf
        ]
        n, c = zip(*found, strict=True)
        return np.array(n), np.array(c)

    def pass_at_k(self, n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats:
        """The unbiased estimate for problems that stopped at `n` samples, `c` of them correct;
        shape (problems, ks). 1 where a problem stopped before k samples: it has a correct one.

        Raises ValueError, naming the rows, for counts at which no problem stops under this rule,
        and for k above the last stage, where nothing is known.
        """
        ks = sizes(k).ravel()
        if np.any(ks > self.stages[-1]):
            raise ValueError(f"k={ks.max()} needs as many samples, got {self.stages[-1]}")
        n_, c_ = np.broadcast_arrays(whole("n", n), whole("c", c))
        rows = self._rows(n_.ravel(), c_.ravel())
        return np.stack([self._estimates(int(one))[rows] for one in ks], axis=-1)

    def chances(self, p: ArrayLike) -> Floats:
        """How likely problems with probabilities `p` of a correct sample stop at each of `ends`;
        shape (problems, ends), rows summing to 1."""
        n, c = self.ends
        at = np.searchsorted(self.stages, n)
        ways = np.array([self._ways[i][j] for i, j in zip(at, c, strict=True)])
        p = probabilities(p)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            right = np.where(c > 0, c * np.log(p), 0.0)
            wrong = np.where(n > c, (n - c) * np.log1p(-p), 0.0)
        return np.asarray(np.exp(ways + right + wrong))

    def _rows(self, n: Counts, c: Counts) -> NDArray[np.int64]:
        where = {
            end: row for row, end in enumerate(zip(*map(np.ndarray.tolist, self.ends), strict=True))
        }
        found = [where.get(pair, -1) for pair in zip(n.tolist(), c.tolist(), strict=True)]
        wrong = [i for i, row in enumerate(found) if row < 0]
        if wrong:
            named = ", ".join(f"n={n[i]} c={c[i]} in row {i}" for i in wrong[:3])
            raise ValueError(f"no problem stops there under {self}: {named} ({len(wrong)} rows)")
        return np.array(found, dtype=np.int64)

    def _estimates(self, k: int) -> Floats:
        """Of pass@k at each of `ends`."""
        n, c = self.ends
        silent = self._orders(k)
        at = np.searchsorted(self.stages, n)
        logs = [silent[i][j] - self._ways[i][j] for i, j in zip(at, c, strict=True)]
        return np.asarray(-np.expm1(np.minimum(logs, 0.0)))

    @cached_property
    def _ways(self) -> list[Floats]:
        return self._orders(0)

    def _orders(self, k: int) -> list[Floats]:
        """For each stage, the logarithm of how many orders of samples lead to each number of
        correct ones without having stopped before, the first k all wrong; shapes (n + 1,)."""
        out: list[Floats] = []
        before, n_before = np.zeros(1), 0
        for n in self.stages:
            drawn = n - max(n_before, min(k, n))  # those that are free to be right or wrong
            fresh = _log_choose(drawn)
            going = before[: self.enough]
            parts = np.full((len(going), n + 1), -np.inf)
            for c, ways in enumerate(going):
                parts[c, c : c + len(fresh)] = (ways + fresh)[: n + 1 - c]
            with np.errstate(divide="ignore"):
                values = logsumexp(parts, axis=0)
            out.append(np.asarray(values))
            before, n_before = out[-1], n
        return out


def doubling(samples: int, first: int, enough: int) -> Design:
    """Stages of `first`, twice, four times as many … and `samples`."""
    stages = [first]
    while stages[-1] * 2 < samples:
        stages.append(stages[-1] * 2)
    return Design(tuple(sorted({min(stage, samples) for stage in [*stages, samples]})), enough)


def _log_choose(n: int) -> Floats:
    k = np.arange(n + 1)
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
