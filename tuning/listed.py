"""The points of a study as Ray Tune takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from tuning.space import Point
from tuning.trial_results import TrialResults, file_name


class Listed(Searcher):  # type: ignore[misc]
    """Gives Ray Tune the points in their order.

    Tune's own grid would put each point under one nested key, with a null for each axis that it
    does not have. This way a trial's config has a plain value for each axis, which TensorBoard's
    HPARAMS and Ray's views show as a column.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        super().__init__(metric=None, mode=None)
        self._points, self._next = points, 0

    def suggest(self, trial_id: str) -> dict[str, Any]:
        point = self._points[self._next]
        self._next += 1
        return point.config

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study continues from its trials' result files."""

    def restore(self, checkpoint_path: str) -> None:
        pass


class KeepsStopped(tune.Callback):  # type: ignore[misc]
    """Keeps what a trial has measured that a scheduler stops."""

    def __init__(self, results: TrialResults) -> None:
        self._results = results

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._results.stop(Point.of_config(trial.config))


def trial_name(trial: Trial) -> str:
    """Returns the name of a trial, and of its folder, in Ray Tune."""
    return file_name(Point.of_config(trial.config))
