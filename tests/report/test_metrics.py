"""The section of registered metrics: a row for each, and no section where there is none."""

from __future__ import annotations

from typing import Any

from forkdiv.report.grid import Grid
from forkdiv.report.metrics import metrics
from forkdiv.report.sections import shown_sections
from tests.summaries import a_cell, a_summary

BAND: dict[str, Any] = {"value": 0.25, "low": 0.125, "high": 0.5}


def names(*cells: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    base, *tuned = cells
    summary = a_summary(tuned, [base])
    grid = Grid.of(summary)
    table = metrics(grid)
    return [shown.name for shown in shown_sections(summary, grid)], table.rows if table else []


def test_a_metric_has_a_row_with_its_limits_for_every_cell() -> None:
    with_metric: dict[str, Any] = {"metrics": {"all_correct": {"1": BAND, "16": BAND}}}
    shown, rows = names(a_cell(None, **with_metric), a_cell(0.5, **with_metric))
    assert "metrics" in shown
    assert len(rows) == 2
    assert rows[0][-3:] == ["all_correct", "0.250 (0.125 to 0.500)", "0.250 (0.125 to 0.500)"]


def test_without_metrics_there_is_no_such_section() -> None:
    shown, rows = names(a_cell(None), a_cell(0.5))
    assert "metrics" not in shown and rows == []
