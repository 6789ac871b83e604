"""Majority votes and best temperatures, as the report shows them."""

from __future__ import annotations

from forkdiv.report import best, majority
from forkdiv.report.grid import Grid
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary, as_once_written, made_invalid, read


def test_a_vote_stands_beside_pass_at_the_largest_k() -> None:
    cells = [a_cell(0.5, majority_at={"1": 0.7, "4": 0.75, "16": 0.8}), made_invalid(a_cell(1.0))]
    made = majority.majority(Grid.of(a_summary(cells)))
    assert made
    assert made.header[4:] == ["majority@1", "majority@4", "majority@16", "pass@16"]
    assert [row[4:] for row in made.rows] == [["0.700", "0.750", "0.800", "0.400"]]


def test_without_answers_to_vote_on_there_is_no_table() -> None:
    assert majority.majority(Grid.of(a_summary([a_cell(0.5)]))) is None


def test_each_model_is_told_with_its_own_best_temperature() -> None:
    summary = a_study(densities=(0.0,), epochs=(8,))
    summary = summary.model_copy(update={"best_decoders": summary.best_decoders[-1:]})
    made = best.best(summary, Grid.of(summary))
    assert made
    assert made.header == [
        *("fork density", "seed", "subset", "k", "best for base", "best for tuned"),
        "change in pass@k",
    ]
    assert made.rows == [["0", "0", "all", "64", "1", "1.3", "−0.170 (−0.210 to −0.130)"]]


def test_a_study_without_any_axis_names_the_tuned_model() -> None:
    summary = a_summary([a_cell({})])
    row = {"seed": 0, "subset": "all", "k": 16, "base_temperature": 0.7, "tuned_temperature": 1.0}
    chosen = {**row, "delta": {"value": 0.1, "low": 0.0, "high": 0.2}}
    summary = read({**summary.as_json(), "best_decoders": [chosen]})
    made = best.best(summary, Grid.of(summary))
    assert made
    assert (made.header[0], made.rows[0][0]) == ("model", "tuned")


def test_where_nothing_was_chosen_there_is_no_table() -> None:
    summary = a_summary([a_cell(0.5)])
    assert best.best(summary, Grid.of(summary)) is None
    older = as_once_written(summary)
    assert best.best(older, Grid.of(older)) is None
