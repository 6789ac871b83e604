"""What a sweep's driver does when a trial ends: it keeps what a stopped one has, and says why one
failed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from forkdiv.core.progress import Progress
from tuning.listed import PointOf
from tuning.trial_errors import latest_reason
from tuning.trial_results import TrialResults


class FollowsTrials(tune.Callback):  # type: ignore[misc]
    """A callback of Ray Tune, called in the driver."""

    def __init__(self, results: TrialResults, point_of: PointOf, progress: Progress) -> None:
        self._results, self._point_of, self._progress = results, point_of, progress

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._results.stop(self._point_of(trial.config))

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._say(trial, f"failed, and is started again: {latest_reason(trial)}")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._say(trial, f"failed: {latest_reason(trial)} (log: {trial.error_file})")

    def _say(self, trial: Trial, message: str) -> None:
        replace(self._progress, who=self._point_of(trial.config).name)(message)
