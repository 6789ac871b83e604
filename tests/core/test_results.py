"""The typed results: exactly the JSON of summary.json, of this version and of earlier ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from forkdiv.core.results import Cell, Summary
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary, grid_summary, made_invalid, written_summary

OF_VERSION_0_1 = Path(__file__).parents[1] / "report" / "data" / "summary-0.1.json"


def written_by_0_1() -> dict[str, Any]:
    """Of a real study; all but two cells of base and tuned models each were cut out."""
    plain: dict[str, Any] = json.loads(OF_VERSION_0_1.read_text())
    return plain


def test_a_summary_of_version_0_1_is_written_as_it_was_read_key_by_key() -> None:
    plain = written_by_0_1()
    again = Summary.model_validate(plain).as_json()
    assert json.dumps(again, sort_keys=True) == json.dumps(plain, sort_keys=True)


def test_a_summary_without_the_keys_that_came_later_is_read_and_gains_none() -> None:
    older = written_by_0_1()
    for key in ("dynamics", "best_decoders", "unit", "notes"):
        del older[key]
    for cell in [*older["base"], *older["cells"]]:
        for key in ("epoch", "law", "no_law", "forks", "shrinkage", "majority_at", "decoder"):
            del cell[key]
    summary = Summary.model_validate(older)
    assert (summary.unit, summary.dynamics, summary.cells[0].law) == ("epoch", (), None)
    assert summary.as_json() == older


@pytest.mark.parametrize(
    "plain",
    [
        written_summary([made_invalid(a_cell(0.5))], base=[]),
        written_summary([a_cell({"loss": "gem", "branch_coverage": 2})]),
    ],
    ids=["invalid", "other axes"],
)
def test_what_a_toy_study_writes_is_read_and_written_alike(plain: dict[str, Any]) -> None:
    assert Summary.model_validate(plain).as_json() == json.loads(json.dumps(plain))


def test_every_part_of_a_summary_survives_a_round_trip() -> None:
    whole = a_study()
    assert Summary.model_validate(whole.as_json()) == whole
    assert json.loads(json.dumps(whole.as_json(), allow_nan=False)) == whole.as_json()


def test_the_axes_of_a_cell_are_a_mapping_and_flat_keys_in_json() -> None:
    (cell,) = a_summary([a_cell({"fork_density": 0.5, "structure": "data-level"})]).cells
    assert cell.axes["fork_density"] == 0.5 and cell.axes["loss"] is None
    assert cell.as_json()["structure"] == "data-level" and "axes" not in cell.as_json()


def test_an_unknown_key_of_a_cell_is_an_axis() -> None:
    cell = Cell.model_validate({**a_cell(0.5), "sft.learning_rate": 0.01})
    assert cell.axes["sft.learning_rate"] == 0.01
    assert cell.as_json()["sft.learning_rate"] == 0.01


def test_results_cannot_be_changed_and_know_their_fields_only() -> None:
    (cell, *_) = grid_summary().cells
    with pytest.raises(ValidationError, match="frozen"):
        cell.valid = False  # type: ignore[misc]
    with pytest.raises(ValidationError, match="wilson"):
        Cell.model_validate({**a_cell(0.5), "agreement": {"worst_z": 1.0, "wilson": True}})
    assert not hasattr(cell, "pass_att")
