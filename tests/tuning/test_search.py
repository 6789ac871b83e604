"""A search chooses its trials once: a search that is stopped goes on with the same ones."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.experiment import Experiment
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.results import Cell
from tests.summaries import a_cell
from tuning.choices import FILE, Choices
from tuning.listed import PointOf
from tuning.search import Search, early_end
from tuning.space import Point, at, check_data, is_open, points
from tuning.trial import TrialResult
from tuning.trial_results import TrialResults

AXES = (
    "sweep.axes={sft.learning_rate: {log: [1e-5, 1e-2]}, sft.lora.rank: [0, 4, 16], "
    "sft.epochs: {range: [1, 6]}, sft.loss: [gem, cross-entropy], temperature: [0.7, 1]}"
)
RANDOM = (AXES, "sweep.search=random", "sweep.trials=8")
OPTUNA = (AXES, "sweep.search=optuna", "sweep.trials=8", "eval.samples=16")


def study(*overrides: str) -> StudyConfig:
    return load(None, overrides)


class Runs:
    """Runs the trials of a search as Ray Tune does, with made-up results."""

    def __init__(self, asked: StudyConfig, folder: Path) -> None:
        self.results = TrialResults(folder)
        self.asked, self.search = asked, Search(asked, self.results)
        self.names: list[str] = []
        self._count = 0

    def start(self) -> tuple[str, Point] | None:
        """Starts the next trial; None after the last."""
        self._count += 1
        trial = f"trial-{self._count}"
        config = self.search.suggest(trial)
        if config == Searcher.FINISHED:
            return None
        assert isinstance(config, dict)
        point = PointOf(self.asked, {})(config)
        self.names.append(point.name)
        return trial, point

    def finish(self, trial: str, point: Point) -> None:
        self.results.write(result(point))
        self.search.on_trial_complete(trial, metrics(point))

    def run(self, trials: int = 1000) -> list[str]:
        while trials > 0 and (started := self.start()):
            self.finish(*started)
            trials -= 1
        return self.names


def quality(point: Point) -> float:
    """Best at a learning rate of 1e-3."""
    rate = float(point.varied.get("sft.learning_rate", 1e-3))
    return 1 / (1 + abs(math.log10(rate) + 3))


def metrics(point: Point) -> dict[str, float]:
    return {"pass_at_1": quality(point), "pass_at_16": 1 - quality(point) / 2}


def result(point: Point) -> TrialResult:
    numbers = a_cell(0.5 if point.tuned else None, changes={1: (0.3, 0.2, 0.4), 16: (0, -1, 1)})
    numbers.pop("fork_density")
    for k in (1, 16):
        numbers["pass_at"][str(k)]["value"] = metrics(point)[f"pass_at_{k}"]
    named = numbers | point.cell_name(2 if point.tuned else None).as_json()
    cell = Cell.model_validate(json.loads(json.dumps(named)))
    return TrialResult(point, "f" * 32, [cell], "c" * 32)


def record(folder: Path) -> list[dict[str, Any]]:
    return Choices(folder).chosen


# --- random -------------------------------------------------------------------------------------


def test_a_random_search_draws_the_same_points_whatever_is_measured() -> None:
    first = points(study(*RANDOM))
    assert first == points(study(*RANDOM, "eval.samples=8", "place.workers=2"))
    assert [p.tuned for p in first].count(True) == 8
    more = [p for p in points(study(*RANDOM, "sweep.trials=20")) if p.tuned]
    assert more[:8] == [p for p in first if p.tuned]
    other = [p for p in points(study(*RANDOM, "sweep.search_seed=1")) if p.tuned]
    assert not {p.name for p in other} & {p.name for p in more}


def test_a_random_search_draws_log_ranges_evenly_in_orders_of_magnitude() -> None:
    asked = study(*RANDOM, "sweep.trials=600")
    tuned = [point for point in points(asked) if point.tuned]
    assert len(set(tuned)) == 600
    rates = [float(point.varied["sft.learning_rate"]) for point in tuned]
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    for low in (1e-5, 1e-4, 1e-3):
        assert 140 < sum(low <= rate < 10 * low for rate in rates) < 260
    assert {point.varied["sft.epochs"] for point in tuned} == {1, 2, 3, 4, 5, 6}
    assert {point.varied["sft.lora.rank"] for point in tuned} == {0, 4, 16}
    assert {point.temperature for point in tuned} == {0.7, 1.0}


def test_the_base_is_measured_once_for_each_drawn_way_of_measuring() -> None:
    grid = points(study(*RANDOM))
    base = [point for point in grid if not point.tuned]
    assert sorted(point.temperature for point in base) == [0.7, 1.0]
    assert grid[: len(base)] == base


def test_seeds_are_drawn_as_integers() -> None:
    asked = study("sweep.axes.seed={range: [0, 9]}", *RANDOM[1:])
    assert len({at(asked, point).sft.seed for point in points(asked) if point.tuned}) == 8


def test_more_trials_than_combinations_are_refused() -> None:
    axes = "sweep.axes={sft.epochs: {range: [1, 3]}, temperature: [0.7, 1]}"
    assert len([p for p in points(study(axes, *RANDOM[1:], "sweep.trials=6")) if p.tuned]) == 6
    with pytest.raises(UserError, match=r"sweep\.trials=7, 6 combinations; allowed: at most 6"):
        check_data(study(axes, *RANDOM[1:], "sweep.trials=7"))


def test_a_budget_of_hours_ends_a_random_search_early(tmp_path: Path) -> None:
    asked = study(*RANDOM, "sweep.hours=1")
    assert is_open(asked) and not is_open(study(*RANDOM))
    some = Runs(asked, tmp_path)
    some.run(3)
    assert early_end(asked, some.results) != [] and not some.search.is_finished
    drawn = [point.name for point in points(asked) if point.tuned]
    assert some.names == drawn[:3]
    with (tmp_path / FILE).open("a") as file:
        file.write('{"seconds": 3600}\n')
    rest = Runs(asked, tmp_path)
    assert all(name.startswith("base") for name in rest.run())
    assert rest.search.is_finished
    assert early_end(asked, rest.results) == [
        "The search ended after 3 of 8 trials, because its budget of sweep.hours=1 was used."
    ]
    unhurried = Runs(study(*RANDOM, "sweep.hours=2"), tmp_path / "all")
    tuned = [name for name in unhurried.run() if not name.startswith("base")]
    assert tuned == drawn and early_end(unhurried.asked, unhurried.results) == []


# --- optuna -------------------------------------------------------------------------------------


def test_optuna_chooses_different_trials_and_measures_the_base_in_the_end(tmp_path: Path) -> None:
    whole = Runs(study(*OPTUNA), tmp_path)
    names = whole.run()
    tuned = [name for name in names if not name.startswith("base")]
    assert len(set(tuned)) == len(tuned) == 8
    assert names == [*tuned, *(name for name in names if name.startswith("base"))]
    assert [point.name for point in whole.search.points] == [*names[8:], *tuned]
    assert whole.search.is_finished and len(record(tmp_path)) == 8
    again = Runs(study(*OPTUNA), tmp_path)
    assert again.search.is_finished and again.run() == []


class Nothing(tune.Trainable):  # type: ignore[misc]
    """A trainable that never runs."""


def test_ray_tune_takes_its_trials_from_the_search_until_there_are_no_more(tmp_path: Path) -> None:
    results = TrialResults(tmp_path)
    asked = study(*OPTUNA)
    search = Search(asked, results)
    generator = SearchGenerator(ConcurrencyLimiter(search, max_concurrent=1))
    experiment = Experiment(
        "search", run=Nothing, config={}, num_samples=sys.maxsize, storage_path=str(tmp_path)
    )
    generator.add_configurations(experiment)
    names = []
    while (trial := generator.next_trial()) is not None:
        assert generator.next_trial() is None, "one trial at a time"
        point = PointOf(asked, {})(trial.config)
        names.append(point.name)
        results.write(result(point))
        generator.on_trial_complete(trial.trial_id, metrics(point))
    assert generator.is_finished() and search.is_finished
    assert len(set(names)) == len(names) == 8 + sum(name.startswith("base") for name in names)


def test_a_killed_search_goes_on_with_the_trials_it_had_chosen(tmp_path: Path) -> None:
    killed = Runs(study(*OPTUNA), tmp_path)
    killed.run(3)
    running = [killed.start(), killed.start()]  # and no more is heard of them
    chosen = record(tmp_path)
    assert len(chosen) == 5
    later = Runs(study(*OPTUNA), tmp_path)
    assert later.search.kept == 3
    later.run()
    assert later.names[:2] == [started[1].name for started in running if started]
    assert record(tmp_path)[:5] == chosen and len(record(tmp_path)) == 8
    tuned = [point.name for point in later.search.points if point.tuned]
    assert len(set(tuned)) == 8
    assert all(later.results.has_valid(point) for point in later.search.points)


def test_the_results_of_finished_trials_are_known_to_a_later_run(tmp_path: Path) -> None:
    Runs(study(*OPTUNA), tmp_path).run(4)
    later = Runs(study(*OPTUNA), tmp_path)
    (started := later.start())
    assert started
    chooser: Any = later.search._chooser
    values = [trial.values for trial in chooser._record.trials if trial.values]
    assert len(values) == 4 and all(0 < first <= 1 for first, _ in values)


def test_optuna_finds_the_good_region_more_often_than_chance(tmp_path: Path) -> None:
    axes = "sweep.axes={sft.learning_rate: {log: [1e-6, 1]}}"
    asked = study(axes, *OPTUNA[1:], "sweep.trials=40")
    late = Runs(asked, tmp_path)
    late.run(40)
    rates = [float(values["sft.learning_rate"]) for values in record(tmp_path)]
    near = [1e-4 < rate < 1e-2 for rate in rates]  # a third of the range
    assert sum(near[20:]) > 10


def test_a_choice_that_was_half_written_when_the_search_was_killed_is_none(tmp_path: Path) -> None:
    Runs(study(*OPTUNA), tmp_path).run(2)
    whole = record(tmp_path)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"chosen": {"sft.lea')
    assert record(tmp_path) == whole
    assert len(Runs(study(*OPTUNA), tmp_path).run()) == 8 - 2 + 2
    (tmp_path / FILE).write_text("no record\n")
    with pytest.raises(InvalidResult, match="choices"):
        record(tmp_path)


def test_a_failed_trial_is_chosen_again_by_the_next_run(tmp_path: Path) -> None:
    failing = Runs(study(*OPTUNA), tmp_path)
    started = failing.start()
    assert started
    failing.search.on_trial_complete(started[0], None, error=True)
    failing.run(2)
    later = Runs(study(*OPTUNA), tmp_path)
    later.run(1)
    assert later.names == [started[1].name]


def test_a_small_space_is_searched_to_its_end_without_repeating_a_trial(tmp_path: Path) -> None:
    asked = study("sweep.axes={sft.epochs: [1, 2], sft.lora.rank: [0, 4]}", *OPTUNA[1:])
    with pytest.raises(UserError, match="4 combinations"):
        points(asked)
    asked = study(
        "sweep.axes={sft.epochs: [1, 2], sft.lora.rank: [0, 4]}",
        *OPTUNA[1:3],
        "sweep.trials=4",
        "eval.samples=16",
    )
    names = Runs(asked, tmp_path).run()
    assert len(set(names)) == 5


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("sweep.seed=[0,1]", "would choose the luckiest seed"),
        ("sweep.axes.sft.seed=[0,1]", "would choose the luckiest seed"),
        ("sweep.axes.eval.samples=[16,32]", "results on the same problems"),
        ("sweep.axes.task.degree=[2,3]", "results on the same problems"),
        ("sweep.scheduler=asha", "cannot be used with sweep.search=optuna"),
    ],
)
def test_what_optuna_cannot_compare_is_refused(override: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        study(*OPTUNA, override)


def test_decoders_are_an_axis_of_a_search(tmp_path: Path) -> None:
    asked = study(
        "decoders={plain: {temperature: 0.7}, cut: {top_p: 0.9}}",
        "sweep.axes={decoder: [plain, cut], decoder.top_k: {range: [2, 40]}}",
        *OPTUNA[1:],
        "sweep.trials=5",
    )
    whole = Runs(asked, tmp_path)
    whole.run()
    base = [point for point in whole.search.points if not point.tuned]
    tuned = [point for point in whole.search.points if point.tuned]
    assert {point.measured_as for point in base} == {point.measured_as for point in tuned}
    assert len(base) == 5 and whole.search.is_finished
