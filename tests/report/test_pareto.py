"""The Pareto front: which settings no other beats in one try and in many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forkdiv.core.results import Summary
from forkdiv.report import page, panels
from forkdiv.report.grid import Grid
from forkdiv.report.pareto import content, front_table, pareto_front, places
from tests.summaries import a_cell, a_summary, made_invalid

RATE = "sft.learning_rate"


def a_model(rate: float, few: float, many: float, **more: Any) -> dict[str, Any]:
    """A cell with these pass@1 and pass@16, each with limits of ±0.05."""
    cell = a_cell({RATE: rate}, changes={1: (0, 0, 0), 16: (0, 0, 0)}, **more)
    for k, value in (("1", few), ("16", many)):
        cell["pass_at"][k] = {"value": value, "low": value - 0.05, "high": value + 0.05}
    return cell


def study(*models: dict[str, Any]) -> Summary:
    base = a_cell(None, changes={1: (0, 0, 0), 16: (0, 0, 0)})
    for k, value in (("1", 0.2), ("16", 0.9)):
        base["pass_at"][k] = {"value": value, "low": value - 0.05, "high": value + 0.05}
    return a_summary(list(models), [base]).model_copy(update={"axes": (RATE,)})


MODELS = [
    a_model(1e-5, 0.3, 0.85),
    a_model(1e-4, 0.6, 0.7),
    a_model(1e-3, 0.58, 0.68),  # below the one before, but not clearly
    a_model(1e-2, 0.1, 0.3),  # clearly below
]


def test_the_front_is_of_the_settings_that_no_other_beats_in_both() -> None:
    summary = study(*MODELS)
    grid = Grid.of(summary)
    found = places(summary, grid)
    front = [place.setting.values[0] if place.setting else None for place in pareto_front(found)]
    assert front == [None, 1e-5, 1e-4]
    table = front_table(found, grid)
    values = ["pass@1", "pass@16", "Pareto front"]
    assert table.header == ["number", "learning rate", "temperature", *values]
    assert [(row[1], row[-1]) for row in table.rows] == [
        ("base", "on the front"),
        ("1e-05", "on the front"),
        ("0.0001", "on the front"),
        ("0.01", "clearly below"),
        ("0.001", ""),
    ]
    assert table.rows[1][3] == "0.300 (0.250 to 0.350)"


def test_equal_settings_are_both_on_the_front() -> None:
    summary = study(*MODELS[:2], a_model(2e-4, 0.6, 0.7))
    assert len(pareto_front(places(summary, Grid.of(summary)))) == 4


def test_the_page_shows_the_front_of_three_settings_or_more(tmp_path: Path) -> None:
    text = page.write(study(*MODELS), tmp_path).read_text()
    assert "One try against many" in text
    assert "3 of 5 settings, the base among them, are on the Pareto front" in text
    assert "1 is clearly below another one in both" in text
    assert (tmp_path / "figures" / "pareto.png").is_file()
    few = study(*MODELS[:2])
    assert content(few, Grid.of(few)) is None


def test_an_invalid_cell_is_on_no_front() -> None:
    summary = study(*MODELS, made_invalid(a_model(1e-1, 0.99, 0.99)))
    assert len(pareto_front(places(summary, Grid.of(summary)))) == 3


def test_every_way_of_measuring_is_a_setting_of_its_own() -> None:
    ways = [[*MODELS[:3], a_model(0.1, 0.9, 0.5)], MODELS]
    cells = [
        {**cell, "decoder": name} for name, way in zip("ab", ways, strict=True) for cell in way
    ]
    base = [{**a_cell(None, changes={1: (0, 0, 0), 16: (0, 0, 0)}), "decoder": n} for n in "ab"]
    summary = a_summary(cells, base).model_copy(update={"axes": (RATE,)})
    table = front_table(places(summary, Grid.of(summary)), Grid.of(summary))
    assert table.header[2] == "measured with"
    assert {row[2] for row in table.rows} == {"a", "b"} and len(table.rows) == 10


def test_one_k_alone_has_no_front() -> None:
    cells = [a_cell({RATE: rate}, changes={1: (0, 0, 0)}) for rate in (0.1, 0.2, 0.3)]
    summary = a_summary(cells).model_copy(update={"axes": (RATE,)})
    assert content(summary, Grid.of(summary)) is None


def test_a_search_with_a_temperature_of_its_own_for_each_trial_has_few_panels() -> None:
    temperatures = [round(0.5 + 0.05 * at, 2) for at in range(16)]
    cells = [a_model(1e-5 * (at + 1), 0.3, 0.8, temperature=t) for at, t in enumerate(temperatures)]
    summary = a_summary(cells).model_copy(update={"axes": (RATE,)})
    (row,) = panels.layout(Grid.of(summary))
    assert len(row) == panels.MAX_TEMPERATURES
    assert 1.0 in [panel.temperature for panel in row]
    assert "6 of 16 temperatures" in panels.curves_omitted(Grid.of(summary))
