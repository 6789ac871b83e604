"""The files from which a study that was stopped continues: what is kept, and what is repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forkdiv.core.errors import InvalidResult
from forkdiv.core.results import Cell, Interval
from tuning.space import Point
from tuning.trial import TrialResult
from tuning.trial_results import TrialResults

POINT = Point(1.0, 0, settings=(("fork_density", 0.5),))


def a_cell(point: Point, epoch: float = 2, valid: bool = True) -> Cell:
    half = Interval(value=0.5, low=0.4, high=0.6)
    return Cell(
        **point.cell_name(epoch).model_dump(),
        subset="all",
        n_problems=10,
        n_samples=8,
        valid=valid,
        truncated=0,
        unparsable=0,
        errors=0 if valid else 1,
        lost={},
        pass_at={1: half},
    )


def a_result(point: Point = POINT, epoch: float = 2, valid: bool = True) -> TrialResult:
    return TrialResult(point, "f" * 32, [a_cell(point, epoch, valid)], f"run-epoch-{epoch:g}")


@pytest.fixture
def results(tmp_path: Path) -> TrialResults:
    return TrialResults(tmp_path / "trials")


def test_a_finished_trial_is_found_again(results: TrialResults) -> None:
    assert results.find(POINT) is None and not results.has_valid(POINT)
    results.write(a_result())
    assert results.find(POINT) == a_result()
    assert results.has_valid(POINT)
    assert not results.has_valid(replace(POINT, temperature=0.7))


def test_an_invalid_trial_is_there_but_is_repeated(results: TrialResults) -> None:
    results.write(a_result(valid=False))
    assert results.find(POINT) is not None
    assert not results.has_valid(POINT)


def test_a_trial_that_was_killed_after_a_measured_checkpoint_is_not_finished(
    results: TrialResults,
) -> None:
    results.write_measured(a_result(epoch=1))
    assert results.find(POINT) is None


def test_what_a_stopped_trial_has_measured_becomes_its_result(results: TrialResults) -> None:
    results.write_measured(a_result(epoch=1))
    assert results.stop(POINT) == replace(a_result(epoch=1), is_stopped=True)
    assert results.has_valid(POINT)
    assert results.stop(POINT) is None, "it is stopped already"


def test_a_finished_trial_is_not_a_stopped_one(results: TrialResults) -> None:
    results.write_measured(a_result(epoch=1))
    results.write(a_result())
    assert results.stop(POINT) is None
    assert results.find(POINT) == a_result()


def test_a_damaged_file_is_named(results: TrialResults) -> None:
    results.write(a_result())
    results.file(POINT).write_text(json.dumps({"point": {}}))
    with pytest.raises(InvalidResult, match=r"density0\.5_T1\.json"):
        results.has_valid(POINT)
