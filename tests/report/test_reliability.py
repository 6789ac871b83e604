"""The sections on reliability and guessing: tables, and the two lines of a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from forkdiv.core.results import Summary
from forkdiv.report import guess, page, reliability
from forkdiv.report.grid import Grid
from forkdiv.report.section import TableView
from forkdiv.report.sections import shown_sections
from tests.summaries import UP, a_cell, a_summary

NAMES = ("cover@0.1", "cover@0.5", "g-pass@4_0.5", "g-pass@16_0.5", "mg-pass@4", "mg-pass@16")


def band(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def reliable(value: float, change: float | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {"reliability": {name: band(value) for name in NAMES}}
    if change is not None:
        fields["reliability_delta"] = {name: band(change) for name in NAMES}
    return fields


def guessed(baseline: float, above: float, change: float | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "pass_at": {"1": band(0.1), "16": band(baseline)},
        "above": {"1": band(0.2), "16": band(above)},
        "references": 4,
    }
    if change is not None:
        fields["above_delta"] = {"1": band(change), "16": band(change)}
    return {"guess": fields}


def a_comparison(base: dict[str, Any], tuned: dict[str, Any]) -> Summary:
    changes = {1: UP, 16: UP}
    return a_summary(
        [a_cell(0.5, changes=changes, **tuned)], [a_cell(None, changes=changes, **base)]
    )


def tables(summary: Summary) -> dict[str, list[list[str]]]:
    parts = [p for shown in shown_sections(summary, Grid.of(summary)) for p in shown.parts]
    return {part.name: part.table.rows for part in parts if isinstance(part, TableView)}


def test_tables_show_every_cover_and_the_largest_k_with_three_times_as_many_samples() -> None:
    summary = a_comparison(reliable(0.4), reliable(0.6, 0.2))
    grid = Grid.of(summary)
    table = reliability.values(grid)
    assert table and table.header[-4:] == ["cover@0.1", "cover@0.5", "g-pass@4_0.5", "mg-pass@4"]
    assert [row[-4:] for row in table.rows] == [["0.400"] * 4, ["0.600"] * 4]
    changed = reliability.changes(grid)
    assert changed and changed.rows[0][-1] == "+0.200 (+0.150 to +0.250)"
    assert len(reliability.long(grid).rows) == 2 * len(NAMES)


def test_the_terminal_has_cover_at_one_half_in_a_line_for_a_single_model() -> None:
    line = reliability.headline(Grid.of(a_comparison(reliable(0.4), reliable(0.6, 0.2))))
    assert line == (
        "cover@0.5 (at least 50% of the samples of a problem are right): base 0.400, tuned 0.600, "
        "change +0.200 (+0.150 to +0.250)"
    )
    several = a_summary([a_cell(0.5, **reliable(0.6, 0.2)), a_cell(1.0, **reliable(0.6, 0.2))])
    assert reliability.headline(Grid.of(several)) == ""
    assert reliability.headline(Grid.of(a_summary([a_cell(0.5)]))) == ""


@pytest.mark.parametrize(
    ("base", "tuned", "parts"),
    [
        ((0.9, 0.02), (0.9, 0.3, 0.2), ["pass@16 may be guessing", "base (0.600, baseline 0.900)"]),
        ((0.9, 0.3), (0.9, 0.02, 0.2), ["fork density 0.5 (0.900, baseline 0.900)"]),
        ((0.9, 0.3), (0.9, 0.3, 0.0), ["the gain at k=16 may be guessing", "fork density 0.5"]),
        ((0.9, 0.3), (0.9, 0.3, 0.2), []),
        ((0.01, 0.0), (0.01, 0.0, 0.0), []),
    ],
)
def test_a_warning_names_models_whose_pass_at_k_or_gain_may_be_guessing(
    base: tuple[float, float], tuned: tuple[float, float, float], parts: list[str]
) -> None:
    line = guess.warning(Grid.of(a_comparison(guessed(*base), guessed(*tuned))))
    assert bool(line) == bool(parts) and "\n" not in line
    assert [part for part in parts if part not in line] == []


def test_a_baseline_that_matters_has_a_table_and_a_line_in_the_plot(tmp_path: Any) -> None:
    summary = a_comparison(guessed(0.9, 0.02), guessed(0.9, 0.3, 0.2))
    (base, tuned) = tables(summary)["guess"]
    assert base[-7] == "4" and base[-2:] == ["0.900", "+0.020 (−0.030 to +0.070)"]
    assert tuned[-2:] == ["0.900", "+0.300 (+0.250 to +0.350)"]
    text = page.write(summary, tmp_path).read_text()
    assert "Thin dash-dotted lines are the guess baseline" in text and "Guessing" in text


def test_without_baselines_or_with_tiny_ones_there_is_no_such_section() -> None:
    for one in ({}, guessed(0.001, 0.5)):
        assert "guess" not in tables(a_comparison(one, one))
    assert "reliability" not in tables(a_comparison({}, {}))
