"""The search of a study whose trials are not known before it starts: Optuna chooses each from the
results of earlier ones, or a budget of hours may end before all drawn trials have run.

Ray Tune asks `Search` for trials. Every choice is in the record (`tuning.choices`) before its trial
starts, and finished trials are in their result files. From both, a search that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ray.tune.search import Searcher

from forkdiv.core.config.axes import DECODER, SEED, TEMPERATURE
from forkdiv.core.config.axis_names import path_of
from forkdiv.core.config.study import StudyConfig
from forkdiv.coverage.cells import ALL
from tuning.choices import Choices
from tuning.draws import draws
from tuning.listed import MODEL
from tuning.space import Point, base_points, is_open, point_of
from tuning.trial_results import TrialResults

Values = dict[str, Any]  # by path


class Chooser(Protocol):
    """Chooses the settings of trials."""

    def choose(self, trial: str) -> Values | None:
        """Returns the values for the trial with this id, which no earlier trial has; None if
        there are no more."""
        ...

    def learn(self, trial: str, values: Values, metrics: Mapping[str, float] | None) -> None:
        """Takes the metrics of a trial that has ended; None if it failed."""
        ...


def objectives(study: StudyConfig) -> list[str]:
    """Returns the metrics that a search makes large: pass@k at the smallest and largest k."""
    return [f"pass_at_{k}" for k in sorted({study.eval.ks[0], study.eval.ks[-1]})]


def early_end(study: StudyConfig, results: TrialResults) -> list[str]:
    """Returns a note for the report if the budget of hours ended the search; [] if it did not."""
    sweep, done = study.sweep, len(Choices(results.folder).chosen)
    if not is_open(study) or sweep.hours is None or done >= (sweep.trials or 0):
        return []
    return [
        f"The search ended after {done} of {sweep.trials} trials, because its budget of "
        f"sweep.hours={sweep.hours:g} was used."
    ]


class Search(Searcher):  # type: ignore[misc]
    """Gives Ray Tune first the trials that an earlier run has chosen and not finished, then new
    ones, and in the end the base, measured as the chosen models are."""

    def __init__(self, study: StudyConfig, results: TrialResults) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._results = study, results
        self._choices = Choices(results.folder)
        unfinished = [values for values in self._choices.chosen if not self._is_kept(values)]
        self._unfinished = iter(unfinished)
        self._base: Iterator[Point] | None = None
        self._given: dict[str, Values] = {}  # of tuned models, by the id of their trial
        self._chooser = self._make_chooser()

    @property
    def points(self) -> list[Point]:
        """The points of the search as far as it has come, those of the base first."""
        tuned = [point_of(self._study, values) for values in self._choices.chosen]
        return [*base_points(tuned), *tuned]

    @property
    def kept(self) -> int:
        """The number of trials that an earlier run has finished."""
        return sum(map(self._results.has_valid, self.points))

    @property
    def is_finished(self) -> bool:
        """Whether no trial is left."""
        points = self.points
        return self._has_chosen and bool(points) and all(map(self._results.has_valid, points))

    def suggest(self, trial_id: str) -> Values | str:
        values = next(self._unfinished, None)
        if values is None and self._base is None and not self._has_chosen:
            values = self._chooser.choose(trial_id)
            if values is not None:
                self._choices.add(values)
        if values is not None:
            self._given[trial_id] = values
            return values
        if self._base is None:
            points = self.points
            self._base = (p for p in points if not p.tuned and not self._results.has_valid(p))
        point = next(self._base, None)
        return str(Searcher.FINISHED) if point is None else _config_of_base(point)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._choices.note_time()
        values = self._given.pop(trial_id, None)
        if values is None:
            return
        names = objectives(self._study)
        is_known = not error and result is not None and all(name in result for name in names)
        metrics = {name: float(result[name]) for name in names} if is_known and result else None
        self._chooser.learn(trial_id, values, metrics)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study continues from its record and its trials' result files."""

    def restore(self, checkpoint_path: str) -> None:
        pass

    @property
    def _has_chosen(self) -> bool:
        """Whether no further trial is chosen."""
        sweep = self._study.sweep
        is_over = sweep.hours is not None and self._choices.seconds >= sweep.hours * 3600
        # at least one, so that there is a result
        return len(self._choices.chosen) >= ((1 if is_over else sweep.trials) or 1)

    def _is_kept(self, values: Values) -> bool:
        return self._results.has_valid(point_of(self._study, values))

    def _make_chooser(self) -> Chooser:
        if self._study.sweep.search != "optuna":
            return Drawn(self._study, self._choices)
        from tuning.optuna_chooser import OptunaChooser

        known = [(values, self._metrics(values)) for values in self._choices.chosen]
        finished = [(values, metrics) for values, metrics in known if metrics]
        return OptunaChooser(self._study, self._choices, objectives(self._study), finished)

    def _metrics(self, values: Values) -> dict[str, float] | None:
        """Returns the objectives of a trial that has finished; None if it has not."""
        point = point_of(self._study, values)
        result = self._results.find(point) if self._results.has_valid(point) else None
        if result is None:
            return None
        (cell,) = (cell for cell in result.cells if cell.subset == ALL)
        known = {f"pass_at_{k}": value.value for k, value in cell.pass_at.items() if value}
        return {name: known[name] for name in objectives(self._study)}


class Drawn:
    """Chooses what a random search draws, in order."""

    def __init__(self, study: StudyConfig, choices: Choices) -> None:
        self._left = iter([values for values in draws(study) if not choices.has(values)])

    def choose(self, trial: str) -> Values | None:
        return next(self._left, None)

    def learn(self, trial: str, values: Values, metrics: Mapping[str, float] | None) -> None:
        """Nothing: what is drawn does not depend on results."""


def _config_of_base(point: Point) -> Values:
    measured = {path_of(key): value for key, value in point.measured_settings.items()}
    decoder = {DECODER: point.decoder} if point.decoder else {}
    own = {MODEL: "base", TEMPERATURE: point.temperature, SEED: point.seed}
    return own | decoder | measured
