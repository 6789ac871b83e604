"""Additional metrics over counts, beside pass@k: an open list that is empty by default.

A metric is a class like `Metric`, registered here or by an installed package through the entry
point group `forkdiv.metrics`. Every valid cell with exchangeable samples gets the mean over the
problems and its change from the base with intervals, the report gets a table, and MLflow a value
for each k.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.open_list import OpenList
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

METRICS: OpenList[Any] = OpenList("metric", __name__, "forkdiv.metrics")


class Metric(ABC):
    """A value of k samples of a problem, computed from the number of correct samples among n."""

    title: ClassVar[str]  # title of its table in the report

    @abstractmethod
    def values(self, n: NDArray[np.int64], correct: NDArray[np.int64], ks: Sequence[int]) -> Floats:
        """Returns float64 of shape (problems, len(ks)), from counts of shape (problems,)."""


def metric_values(counts: Sequence[ProblemCounts], ks: Sequence[int]) -> dict[str, Floats]:
    """Returns the values of every registered metric by name, of shape (problems, ks)."""
    n = np.array([count.n for count in counts])
    correct = np.array([count.correct for count in counts])
    return {name: METRICS.get(name)().values(n, correct, ks) for name in METRICS.names()}
