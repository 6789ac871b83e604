"""The points of a study as trials of Ray Tune, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from forkdiv.core.config.study import StudyConfig
from tuning import space
from tuning.space import Point

TRIAL = "trial"  # the key of a listed point's name in its trial's config
MODEL = "model"  # the key that says whether a trial measures the base or a tuned model


@dataclass(frozen=True)
class PointOf:
    """Returns the point of a trial's config: one of those listed, or, for a searcher that chooses
    values, the point of the study with these values by path."""

    study: StudyConfig
    listed: Mapping[str, Point]

    def __call__(self, config: Mapping[str, Any]) -> Point:
        if (name := config.get(TRIAL)) is not None:
            return self.listed[name]
        values = {path: value for path, value in config.items() if path != MODEL}
        point = space.point_of(self.study, values)
        return space.base_points([point])[0] if config.get(MODEL) == "base" else point

    def file_name(self, trial: Trial) -> str:
        """Returns the name of a trial, and of its folder, in Ray Tune."""
        return self(trial.config).file_name


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
        return config_of(point)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study continues from its trials' result files."""

    def restore(self, checkpoint_path: str) -> None:
        pass


def config_of(point: Point) -> dict[str, Any]:
    """Returns a trial's config: flat, without nulls."""
    config: dict[str, Any] = {
        TRIAL: point.name,
        MODEL: "tuned" if point.tuned else "base",
        "temperature": point.temperature,
        "seed": point.seed,
    }
    return config | ({"decoder": point.decoder} if point.decoder else {}) | point.varied
