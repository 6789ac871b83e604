"""The coverage law is shown with its limits and with how far off it was."""

from __future__ import annotations

from typing import Any

from forkdiv.report import law
from forkdiv.report.grid import Grid
from tests.summaries import a_cell, a_summary

FIT = {"a": -1.5, "a_low": -1.6, "a_high": -1.4, "b": -0.5, "b_low": -0.6, "b_high": -0.4}


def interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def fitted(predicted: float, observed: float) -> dict[str, Any]:
    return {
        **FIT,
        "predictions": {"512": interval(0.9, 0.05)},
        "heldout": {
            "fit_n": 16,
            "at_k": 64,
            "predicted": interval(predicted, 0.04),
            "observed": interval(observed, 0.03),
            "error": predicted - observed,
        },
    }


def test_the_table_holds_fit_prediction_and_check() -> None:
    made = law.table(Grid.of(a_summary([a_cell(0.5, law=fitted(0.8, 0.75)), a_cell(1.0)])))
    assert made
    assert made.header[4:] == [
        *("a", "b", "predicted pass@512", "check", "predicted", "measured", "error")
    ]
    (row,) = made.rows
    assert row[4:] == [
        *("−1.500 (−1.600 to −1.400)", "−0.500 (−0.600 to −0.400)", "0.900 (0.850 to 0.950)"),
        *("k=64 from 16", "0.800 (0.760 to 0.840)", "0.750 (0.720 to 0.780)", "+0.050"),
    ]


def test_a_law_without_a_check_says_nothing_of_one() -> None:
    told = {**fitted(0.8, 0.7), "heldout": None}
    grid = Grid.of(a_summary([a_cell(0.5, law=told)]))
    made = law.table(grid)
    assert made
    assert made.rows[0][-4:] == ["", "", "", ""]
    assert law.check_sentence(grid) == ""


def test_the_worst_check_and_intervals_that_lie_apart_are_told() -> None:
    cells = [a_cell(0.0, law=fitted(0.5, 0.52)), a_cell(1.0, law=fitted(0.5, 0.7))]
    said = law.check_sentence(Grid.of(a_summary(cells)))
    assert "Checked in 2 cells" in said and "up to 0.200" in said
    assert "in 1 of them the two intervals do not overlap" in said
    assert "in none of them" in law.check_sentence(Grid.of(a_summary(cells[:1])))


def test_without_a_fit_there_is_no_table() -> None:
    assert law.table(Grid.of(a_summary([a_cell(0.5)]))) is None


def test_cells_without_a_fit_are_counted_with_the_reason() -> None:
    none = "no sample is correct: pass@k is 0 at every k"
    cells = [a_cell(0.0, no_law=none), a_cell(0.5, no_law=none), a_cell(1.0, law=fitted(0.8, 0.7))]
    said = law.missing_sentence(Grid.of(a_summary(cells)))
    assert said == f"Not fitted in 2 cells: in 2, {none}."
    assert law.missing_sentence(Grid.of(a_summary(cells[2:]))) == ""


def test_the_rival_stands_beside_the_law_with_its_own_error() -> None:
    near = fitted(0.76, 0.75)
    rival = {"alpha": 0.4, "beta": 2.0, "predictions": near["predictions"]}
    cells = [
        a_cell(0.0, law={**fitted(0.8, 0.75), "rival": {**rival, "heldout": near["heldout"]}}),
        a_cell(0.5, law={**fitted(0.8, 0.75), "rival": {**rival, "heldout": None}}),
        a_cell(1.0, law=fitted(0.8, 0.75)),
    ]
    grid = Grid.of(a_summary(cells))
    made = law.table(grid)
    assert made and made.header[-2:] == ["beta: pass@512", "beta: error"]
    predicted = "0.900 (0.850 to 0.950)"
    assert [row[-2:] for row in made.rows] == [[predicted, "+0.010"], [predicted, ""], ["", ""]]
    assert "was up to 0.010, and smaller than that of the law in 1 of 1" in law.check_sentence(grid)
