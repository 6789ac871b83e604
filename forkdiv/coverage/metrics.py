"""Additional metrics over counts, beside pass@k: an open list that is empty by default.

A metric is a class like `Metric`, registered here or by an installed package through the entry
point group `forkdiv.metrics`. Every valid cell with exchangeable samples gets the mean over the
problems with an interval, the report gets a table, and MLflow a value for each k.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.config.open_list import OpenList
from forkdiv.core.results import Interval
from forkdiv.coverage import stats
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

METRICS: OpenList[Any] = OpenList("metric", __name__, "forkdiv.metrics")


class Metric(ABC):
    """A value of k samples of a problem, computed from the number of correct samples among n."""

    title: ClassVar[str]  # title of its table in the report

    @abstractmethod
    def values(self, n: NDArray[np.int64], correct: NDArray[np.int64], ks: Sequence[int]) -> Floats:
        """Returns float64 of shape (problems, len(ks)), from counts of shape (problems,)."""


def metrics_of(
    counts: Sequence[ProblemCounts], weights: Floats, config: EvalConfig
) -> dict[str, dict[int, Interval]]:
    """Returns the mean over problems of every registered metric, by name and k, with limits.

    `weights` are the bootstrap weights of the problems, of shape (replicates, problems).
    """
    n = np.array([count.n for count in counts])
    correct = np.array([count.correct for count in counts])
    strata = [count.subset for count in counts]
    results = {}
    for name in METRICS.names():
        metric: Metric = METRICS.get(name)()
        values = metric.values(n, correct, config.ks)
        bands = stats.mean_intervals(values, weights, config.confidence, strata)
        results[name] = {
            k: Interval(value=band.value, low=band.low, high=band.high)
            for k, band in zip(config.ks, bands, strict=True)
        }
    return results
