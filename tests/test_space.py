"""The grid: base first, and a point changes what it names and nothing else."""

from __future__ import annotations

from pathlib import Path

from forkdiv import dataset, train
from forkdiv.artifacts import Artifact
from forkdiv.checkpoint import Checkpoint
from forkdiv.config import StudyConfig, load
from forkdiv.tasks import build
from tests.fakes import TASK
from tuning.space import Point, at, points

GRID = [
    "sweep.fork_density=[0.0,0.5,1.0]",
    "sweep.temperature=[0.7,1.3]",
    "sweep.seed=[3,1]",
]


def train_fingerprint(study: StudyConfig) -> str:
    data = Artifact(
        Path("data"),
        {"fingerprint": dataset.sft_identity(study.task, study.dataset).fingerprint},
    )
    return train.identity(data, Checkpoint(Path("base"), "b"), study.sft).fingerprint


def test_the_base_comes_first_once_per_temperature() -> None:
    grid = points(load(None, GRID))
    assert grid[:2] == [Point(None, 0.7, 3), Point(None, 1.3, 3)]
    assert all(point.fork_density is not None for point in grid[2:])


def test_the_tuned_points_are_the_whole_grid_one_training_after_the_other() -> None:
    grid = points(load(None, GRID))[2:]
    assert grid == [Point(d, t, s) for s in (3, 1) for d in (0.0, 0.5, 1.0) for t in (0.7, 1.3)]


def test_an_empty_axis_takes_the_value_of_its_own_stage() -> None:
    study = load(None, ["dataset.fork_density=0.2", "decoder.temperature=0.9", "sft.seed=4"])
    assert points(study) == [Point(None, 0.9, 4), Point(0.2, 0.9, 4)]


def test_the_names_of_a_grid_are_distinct() -> None:
    names = [point.name for point in points(load(None, GRID))]
    assert len(set(names)) == len(names)
    assert names[0] == "base T=0.7"
    assert "density=0.5 T=1.3 seed=3" in names


def test_points_that_differ_in_the_seventh_digit_have_names_of_their_own() -> None:
    study = load(None, ["sweep.fork_density=[0.3333333,0.3333334]"])
    names = [point.name for point in points(study)]
    assert len(set(names)) == len(names)


def test_a_point_changes_its_own_settings_and_leaves_no_axes() -> None:
    study = load(None, GRID)
    there = at(study, Point(0.5, 1.3, 1))
    assert there.dataset.fork_density == 0.5
    assert there.decoder.temperature == 1.3
    assert there.sft.seed == there.dataset.seed == 1
    assert points(there) == [Point(None, 1.3, 1), Point(0.5, 1.3, 1)]
    assert study == load(None, GRID)


def test_a_point_leaves_held_out_problems_evaluation_and_place_alone() -> None:
    study = load(None, [*GRID, "place.workers=4", "place.root=/somewhere", "eval.problems=8"])
    expected = build(TASK).heldout("test", 8)
    for point in points(study):
        there = at(study, point)
        assert there.place == study.place
        assert (there.task, there.eval, there.base) == (study.task, study.eval, study.base)
        assert build(there.task).heldout(there.eval.split, there.eval.problems) == expected


def test_the_base_point_leaves_the_stages_of_training_alone() -> None:
    study = load(None, [*GRID, "dataset.seed=9", "sft.seed=8"])
    there = at(study, Point(None, 0.7, 3))
    assert (there.dataset, there.sft) == (study.dataset, study.sft)


def test_a_temperature_trains_nothing_and_a_density_or_a_seed_does() -> None:
    study = load(None, GRID)
    plain = train_fingerprint(at(study, Point(0.5, 0.7, 1)))
    assert train_fingerprint(at(study, Point(0.5, 1.3, 1))) == plain
    assert train_fingerprint(at(study, Point(0.0, 0.7, 1))) != plain
    assert train_fingerprint(at(study, Point(0.5, 0.7, 3))) != plain


def test_without_a_seed_axis_a_study_trains_what_the_train_verb_trains() -> None:
    study = load(None, ["dataset.seed=7", "sft.seed=2"])
    tuned = points(study)[-1]
    assert train_fingerprint(at(study, tuned)) == train_fingerprint(study)
