"""A metric over counts: one class, registered under a name, reaches the cell and MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.results import Cell, CellName
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.coverage.metric_names import Metrics
from forkdiv.coverage.metrics import METRICS, Metric
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts
from tuning.tracked_metrics import tracked_metrics

NAME = CellName(axes={}, tuned=False, temperature=1.0, seed=0)
CONFIG = EvalConfig(samples=4, k=(1, 2), bootstrap=200)


class AllCorrect(Metric):
    """The chance that k samples drawn with replacement are all correct."""

    title = "All of k correct"

    def values(self, n: NDArray[np.int64], correct: NDArray[np.int64], ks: Sequence[int]) -> Floats:
        return np.asarray((correct / n)[:, None] ** np.array(ks))


@pytest.fixture
def registered() -> Iterator[None]:
    METRICS.names()
    METRICS.register("all_correct", lambda: AllCorrect)
    yield
    del METRICS._loaders["all_correct"]


def counts(*correct: int) -> list[ProblemCounts]:
    return [
        ProblemCounts(f"p{at}", "", n=4, correct=c, wrong=4 - c, valid=None)
        for at, c in enumerate(correct)
    ]


def a_cell(*correct: int) -> Cell:
    return cells(NAME, CellInputs(counts(*correct)), CONFIG)[-1]


@pytest.mark.usefixtures("registered")
def test_a_registered_metric_is_measured_with_limits_and_recorded() -> None:
    cell = a_cell(4, 2, 0)
    bands = cell.metrics["all_correct"]
    assert bands[1].value == pytest.approx((1 + 0.5 + 0) / 3)
    assert bands[2].value == pytest.approx((1 + 0.25 + 0) / 3)
    assert all(band.low <= band.value <= band.high for band in bands.values())
    assert tracked_metrics([cell])["all/all_correct_at_2"] == pytest.approx(1.25 / 3)
    assert Cell.model_validate(cell.as_json()) == cell


@pytest.mark.usefixtures("registered")
def test_a_registered_metric_has_a_paired_change_and_a_name_for_conditions() -> None:
    inputs = CellInputs(counts(4, 2, 0), counts(2, 2, 2))
    cell = cells(NAME.model_copy(update={"tuned": True}), inputs, CONFIG)[-1]
    change = cell.metrics_delta["all_correct"][2]
    assert change.value == pytest.approx(1.25 / 3 - 0.25)
    assert Metrics.of_cell(cell).changes["all_correct@2"] == change
    assert "all_correct@2" in Metrics.to_measure(CONFIG, True, True).names


def test_without_one_a_cell_is_written_as_it_was() -> None:
    cell = a_cell(4, 2, 0)
    assert cell.metrics == {} and "metrics" not in cell.as_json()


@pytest.mark.usefixtures("registered")
def test_an_invalid_cell_has_none() -> None:
    bad = counts(4, 2)
    bad[0].error, bad[0].correct = 1, 3
    assert cells(NAME, CellInputs(bad), CONFIG)[-1].metrics == {}
