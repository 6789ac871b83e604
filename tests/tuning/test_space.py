"""The grid: base first, and a point changes what it names and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DATA_AXES, StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.data import dataset
from forkdiv.tasks.registry import build
from forkdiv.train import sft_run
from tests.fakes import TASK
from tuning.space import Point, at, axes, check_data, points, single_point

GRID = [
    "sweep.fork_density=[0.0,0.5,1.0]",
    "sweep.temperature=[0.7,1.3]",
    "sweep.seed=[3,1]",
]
# Of those that train on data which we generate.
CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[2] / "jobs" / "configs").glob("*.yaml"))
    if load(path).task.kind not in ("file", "counterfactual_arithmetic", "short_facts")
]
TWO_VALID = ["task.valid=2", "dataset.examples=60"]
EVERY_AXIS = [
    *TWO_VALID,
    "sweep.fork_density=[0.0,1.0]",
    "sweep.direction=[0.5,1.0]",
    "sweep.branch_coverage=[1,2]",
    "sweep.synthesis=[none,enumerator]",
]


def base_point(temperature: float, seed: int) -> Point:
    return Point(temperature, seed, tuned=False)


def dense(density: float, temperature: float, seed: int) -> Point:
    return Point(temperature, seed, settings=(("fork_density", density),))


def train_fingerprint(study: StudyConfig) -> str:
    data = dataset.sft_identity(build(study.task), study.dataset).fingerprint
    return sft_run.identity(data, "base", study.sft, study.prompt).fingerprint


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        check_data(load(None, overrides))
    message = str(caught.value)
    assert "\n" not in message and ": got " in message and "; allowed: " in message
    return message


def test_the_base_comes_first_once_per_temperature() -> None:
    grid = points(load(None, GRID))
    assert grid[:2] == [base_point(0.7, 3), base_point(1.3, 3)]
    assert all(point.tuned and "fork_density" in point.varied for point in grid[2:])


def test_the_tuned_points_are_the_whole_grid_one_training_after_the_other() -> None:
    grid = points(load(None, GRID))[2:]
    assert grid == [dense(d, t, s) for s in (3, 1) for d in (0.0, 0.5, 1.0) for t in (0.7, 1.3)]


def test_several_axes_make_every_combination_once() -> None:
    study = load(None, EVERY_AXIS)
    tuned = points(study)[1:]
    assert axes(study) == ("fork_density", "direction", "branch_coverage", "synthesis")
    assert len(tuned) == len(set(tuned)) == 2**4
    for axis in axes(study):
        assert {point.varied[axis] for point in tuned} == set(getattr(study.sweep, axis))
    assert {point.axes["structure"] for point in tuned} == {None}


def test_an_axis_that_is_not_varied_is_in_no_point() -> None:
    study = load(None, ["sweep.direction=[0.0,1.0]", "dataset.fork_density=0.2"])
    assert axes(study) == ("direction",)
    assert [point.varied for point in points(study)[1:]] == [{"direction": 0.0}, {"direction": 1.0}]
    assert all(at(study, point).dataset.fork_density == 0.2 for point in points(study))


def test_where_nothing_is_varied_the_tasks_first_axis_names_the_point() -> None:
    study = load(None, ["dataset.fork_density=0.2", "decoder.temperature=0.9", "sft.seed=4"])
    assert axes(study) == ("fork_density",)
    assert points(study) == [base_point(0.9, 4), dense(0.2, 0.9, 4)]


@pytest.mark.parametrize("settings", [GRID, EVERY_AXIS])
def test_the_names_of_a_grid_are_distinct(settings: list[str]) -> None:
    names = [point.name for point in points(load(None, settings))]
    assert len(set(names)) == len(names)


def test_a_name_says_what_varies() -> None:
    names = [point.name for point in points(load(None, GRID))]
    assert names[0] == "base T=0.7"
    assert "density=0.5 T=1.3 seed=3" in names
    assert "density=1 direction=0.5 coverage=2 synthesis=enumerator T=1" in [
        point.name for point in points(load(None, EVERY_AXIS))
    ]


def test_points_that_differ_in_the_seventh_digit_have_names_of_their_own() -> None:
    study = load(None, ["sweep.fork_density=[0.3333333,0.3333334]"])
    names = [point.name for point in points(study)]
    assert len(set(names)) == len(names)


def test_a_point_changes_its_own_settings_and_leaves_no_axes() -> None:
    study = load(None, GRID)
    there = at(study, dense(0.5, 1.3, 1))
    assert there.dataset.fork_density == 0.5
    assert there.decoder.temperature == 1.3
    assert there.sft.seed == there.dataset.seed == 1
    assert points(there) == [base_point(1.3, 1), dense(0.5, 1.3, 1)]
    assert study == load(None, GRID)


def test_a_point_sets_every_data_axis_it_names() -> None:
    study = load(None, EVERY_AXIS)
    for point in points(study)[1:]:
        there = at(study, point).dataset
        assert {axis: getattr(there, axis) for axis in point.varied} == point.varied
        assert set(point.varied) == set(axes(study)) < set(DATA_AXES)


def test_a_point_leaves_held_out_problems_evaluation_and_place_alone() -> None:
    study = load(None, [*GRID, "place.workers=4", "place.root=/somewhere", "eval.problems=8"])
    expected = build(TASK).heldout("test", 8)
    for point in points(study):
        there = at(study, point)
        assert there.place == study.place
        assert (there.task, there.eval, there.base) == (study.task, study.eval, study.base)
        assert there.prompt == study.prompt
        assert build(there.task).heldout(there.eval.split, there.eval.problems) == expected


def test_the_base_point_leaves_the_stages_of_training_alone() -> None:
    study = load(None, [*GRID, "dataset.seed=9", "sft.seed=8"])
    there = at(study, base_point(0.7, 3))
    assert (there.dataset, there.sft) == (study.dataset, study.sft)


def test_a_temperature_trains_nothing_and_a_density_or_a_seed_does() -> None:
    study = load(None, GRID)
    plain = train_fingerprint(at(study, dense(0.5, 0.7, 1)))
    assert train_fingerprint(at(study, dense(0.5, 1.3, 1))) == plain
    assert train_fingerprint(at(study, dense(0.0, 0.7, 1))) != plain
    assert train_fingerprint(at(study, dense(0.5, 0.7, 3))) != plain


@pytest.mark.parametrize("axis", ["direction", "branch_coverage"])
def test_every_value_of_a_data_axis_is_a_training_of_its_own(axis: str) -> None:
    study = load(None, [*TWO_VALID, f"sweep.{axis}=[1,{0 if axis == 'direction' else 2}]"])
    first, second = (train_fingerprint(at(study, point)) for point in points(study)[1:])
    assert first != second


def test_every_loss_is_a_training_of_its_own_on_the_same_data() -> None:
    study = load(None, ["sweep.loss=[cross-entropy,gem,dco]", "dataset.fork_density=0.2"])
    base, *tuned = points(study)
    assert axes(study) == ("loss",) and base.axes["loss"] is None
    assert [point.name for point in tuned] == [f"loss={one} T=1" for one in study.sweep.loss]
    assert len({train_fingerprint(at(study, point)) for point in tuned}) == 3
    assert {at(study, point).dataset for point in tuned} == {study.dataset}


def test_a_loss_is_swept_beside_axes_of_the_data_and_on_tasks_without_any() -> None:
    study = load(None, ["sweep.loss=[gem,dco]", "sweep.fork_density=[0.0,1.0]"])
    assert axes(study) == ("fork_density", "loss")
    assert len(points(study)) == 5
    own = load(None, ["task={kind: short_facts}", "sweep.loss=[gem,dco]"])
    assert axes(own) == ("loss",)


def test_without_a_seed_axis_a_study_trains_what_the_train_verb_trains() -> None:
    study = load(None, ["dataset.seed=7", "sft.seed=2"])
    tuned = points(study)[-1]
    assert train_fingerprint(at(study, tuned)) == train_fingerprint(study)


def test_the_single_point_is_of_the_studys_own_settings_whatever_it_sweeps() -> None:
    own = ["dataset.fork_density=0.25", "decoder.temperature=0.9", "sft.seed=5"]
    study = load(None, [*GRID, *own])
    assert single_point(study) == dense(0.25, 0.9, 5)
    assert single_point(study).tuned


# --- what cannot be, found before anything starts -----------------------------------------------


@pytest.mark.parametrize(
    "settings", [[], GRID, EVERY_AXIS, ["task.valid=2", "dataset.branch_coverage=2"]]
)
def test_a_grid_that_can_be_made_passes(settings: list[str]) -> None:
    check_data(load(None, settings))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_grid_of_every_shipped_config_can_be_made(path: Path) -> None:
    check_data(load(path))


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("structure", "[data-level]"),
        ("branch_coverage", "[1]"),
        ("synthesis", "[none,enumerator]"),
    ],
)
def test_an_axis_without_effect_on_the_task_is_refused_with_the_allowed_axes(
    axis: str, values: str
) -> None:
    message = refusal(f"sweep.{axis}={values}")
    assert f"sweep.{axis} has no effect on this task" in message
    own = "sweep.fork_density, sweep.direction, sweep.loss, sweep.interpolation"
    allowed = f"{own}, sweep.decoder, sweep.temperature, sweep.seed"
    assert f"allowed: {allowed}; remove sweep.{axis}" in message


def test_a_dataset_setting_without_effect_on_the_task_is_refused_with_the_allowed_settings() -> (
    None
):
    message = refusal("dataset.structure=data-level")
    assert "dataset.structure has no effect on this task: got data-level" in message
    assert "allowed: dataset.direction, dataset.fork_density;" in message


def test_a_grid_with_an_impossible_point_is_refused() -> None:
    assert "1 to task.valid=2" in refusal("task.valid=2", "sweep.branch_coverage=[1,2,3]")
    message = refusal("task.valid=2", "dataset.examples=61", "sweep.branch_coverage=[1,2]")
    assert "examples=61; allowed: a multiple of dataset.branch_coverage=2" in message


def test_more_training_problems_than_the_task_has_are_refused() -> None:
    small = ["task.names=7", "task.degree=2"]
    message = refusal(*small, "dataset.examples=2000")
    assert "too few distinct problems for the train split" in message
    check_data(load(None, [*small, "dataset.examples=1000"]))


def test_a_task_without_training_data_is_refused() -> None:
    message = refusal("task.kind=counterfactual_arithmetic")
    assert "this task has no fine-tuning data" in message
    assert "use `forkdiv sample` or `forkdiv evaluate`" in message


def test_a_way_of_synthesis_that_the_task_does_not_offer_is_refused() -> None:
    # several arms are right, and all of them can be listed
    check_data(load(None, [*TWO_VALID, "dataset.synthesis=enumerator"]))
    assert "dataset.synthesis has no effect" in refusal("dataset.synthesis=samples")


DECODERS = [
    "decoder.max_new_tokens=12",
    "decoders={plain: {temperature: 0.7}, forced: {first_tokens: 3, temperature: 1.3}}",
    "sweep.decoder=[plain,forced]",
    "sweep.fork_density=[0.0,1.0]",
]


def test_every_decoder_samples_the_base_and_each_setting_at_its_own_temperature() -> None:
    study = load(None, DECODERS)
    grid = points(study)
    ways = [("plain", 0.7), ("forced", 1.3)]
    assert [(one.decoder, one.temperature) for one in grid] == ways * 3
    assert [one.tuned for one in grid] == [False, False, *[True] * 4]
    assert len({one.name for one in grid}) == len(grid)
    forced = at(study, grid[-1]).decoder
    assert (forced.first_tokens, forced.temperature, forced.max_new_tokens) == (3, 1.3, 12)
    trained = {train_fingerprint(at(study, one)) for one in grid if one.tuned}
    assert len(trained) == 2


def test_a_temperature_axis_overrides_the_decoders_own() -> None:
    study = load(None, [*DECODERS, "sweep.temperature=[0.5,1.0]"])
    base = [one for one in points(study) if not one.tuned]
    want = [("plain", 0.5), ("plain", 1.0), ("forced", 0.5), ("forced", 1.0)]
    assert [(one.decoder, one.temperature) for one in base] == want
    assert at(study, base[2]).decoder.temperature == 0.5


def test_a_study_crosses_processes_with_its_decoders() -> None:
    study = load(None, DECODERS)
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study
