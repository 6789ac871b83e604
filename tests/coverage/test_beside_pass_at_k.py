"""The metrics of a cell beside pass@k: values, paired changes with limits, and when absent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.results import Cell, CellName
from forkdiv.coverage import reliability
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.coverage.stats import g_pass_at_k, majority_at_k, mg_pass_at_k
from forkdiv.score.counts import ProblemCounts
from tuning.tracked_metrics import tracked_metrics

N = 16
CONFIG = EvalConfig(samples=N, k=(1, 4, 16), tau=(0.5, 0.25, 1.0), bootstrap=200)
NAME = CellName(axes={}, tuned=True, temperature=1.0, seed=0)
BASE, TUNED = [16, 8, 4, 3, 0, 12], [16, 16, 2, 0, 0, 8]


def counts(correct: list[int], votes: bool = True) -> list[ProblemCounts]:
    return [
        ProblemCounts(
            f"p{at}",
            "",
            n=N,
            correct=c,
            wrong=N - c,
            right_votes=({c: 1} if c else {}) if votes else None,
            wrong_votes=({N - c: 1} if c < N else {}) if votes else None,
        )
        for at, c in enumerate(correct)
    ]


def a_cell(tuned: list[ProblemCounts], base: list[ProblemCounts] | None = None) -> Cell:
    return cells(NAME, CellInputs(tuned, base), CONFIG)[-1]


def test_a_cell_has_every_metric_of_reliability_with_limits_around_it() -> None:
    cell = a_cell(counts(TUNED), counts(BASE))
    assert list(cell.reliability) == [
        *("cover@0.25", "cover@0.5", "cover@1"),
        *("g-pass@4_0.5", "g-pass@16_0.5", "g-pass@4_1", "g-pass@16_1"),
        *("mg-pass@4", "mg-pass@16"),
    ]
    assert list(cell.reliability) == reliability.names(CONFIG) == list(cell.reliability_delta)
    values = {name: interval.value for name, interval in cell.reliability.items()}
    assert values["cover@0.5"] == pytest.approx(3 / 6)
    assert values["cover@1"] == pytest.approx(2 / 6)
    assert values["g-pass@4_1"] == pytest.approx(g_pass_at_k(N, TUNED, 4, 1.0).mean())
    assert values["mg-pass@16"] == pytest.approx(mg_pass_at_k(N, TUNED, 16).mean())
    for interval in (*cell.reliability.values(), *cell.reliability_delta.values()):
        assert interval.low <= interval.value <= interval.high
        assert interval.low_all is not None and interval.low_all <= interval.low


def test_changes_are_paired_differences_from_the_base() -> None:
    cell, base = a_cell(counts(TUNED), counts(BASE)), a_cell(counts(BASE))
    for name, change in cell.reliability_delta.items():
        difference = cell.reliability[name].value - base.reliability[name].value
        assert change.value == pytest.approx(difference)
    for k, change in cell.majority_delta.items():
        assert change.value == pytest.approx(cell.majority_at[k] - base.majority_at[k])
    assert (base.reliability_delta, base.majority_delta, base.paired_counts) == ({}, {}, ())


def test_a_model_that_equals_its_base_has_no_change_at_all() -> None:
    cell = a_cell(counts(BASE), counts(BASE))
    changes = [*cell.reliability_delta.values(), *cell.majority_delta.values()]
    assert all(change.value == 0 for change in changes)


def test_majority_has_limits_around_the_value_it_had_without_them() -> None:
    cell = a_cell(counts(TUNED))
    draws = -(-100_000 // len(TUNED))
    alone = [
        majority_at_k(N, row.right_votes or {}, row.wrong_votes or {}, CONFIG.ks, draws, seed)
        for seed, row in enumerate(counts(TUNED))
    ]
    assert list(cell.majority_at.values()) == pytest.approx(np.mean(alone, axis=0))
    for k, interval in cell.majority_limits.items():
        assert interval.value == cell.majority_at[k]
        assert interval.low <= interval.value <= interval.high


def test_verdicts_without_answers_have_no_majority_and_no_guess_baseline() -> None:
    cell = a_cell(counts(TUNED, votes=False), counts(BASE, votes=False))
    assert (cell.majority_at, cell.majority_limits, cell.majority_delta) == ({}, {}, {})
    assert cell.guess is None and cell.reliability


def test_paired_counts_say_how_many_problems_had_so_many_right_samples_of_both() -> None:
    cell = a_cell(counts([*TUNED, 16]), counts([*BASE, 16]))
    assert cell.paired_counts == (
        *((0, 0, 1), (3, 0, 1), (4, 2, 1), (8, 16, 1), (12, 8, 1), (16, 16, 2)),
    )
    assert Cell.model_validate(cell.as_json()) == cell


def test_samples_that_depend_on_each_other_have_none_of_these() -> None:
    stages = [replace(row, stages=(8, 16), enough=16) for row in counts(TUNED)]
    cell = a_cell(stages, stages)
    assert not any((cell.reliability, cell.majority_limits, cell.guess, cell.paired_counts))
    assert "reliability" not in cell.as_json() and cell.delta_to_base


def test_mlflow_has_them_in_groups_of_their_own() -> None:
    metrics = tracked_metrics([a_cell(counts(TUNED), counts(BASE))])
    assert metrics["reliability/cover_at_0.5"] == pytest.approx(3 / 6)
    assert {"reliability/delta_g_pass_at_16_0.5", "reliability/mg_pass_at_4"} <= metrics.keys()
    outside = [name for name in metrics if "cover" in name and not name.startswith("reliability/")]
    assert outside == []
