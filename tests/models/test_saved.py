"""Which folders of a run are its checkpoints, and in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkdiv.core.errors import UserError
from forkdiv.models.saved import numbered, saved_checkpoints, unit_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("step-2", "step-10", "step-100", "epoch-1", "global_step_7", "final", "logs-3"):
        (tmp_path / name).mkdir()
        if name != "logs-3":
            (tmp_path / name / "config.json").write_text("{}")
    return tmp_path


def test_a_pattern_picks_checkpoints_in_the_order_of_their_numbers(run: Path) -> None:
    unit, found = saved_checkpoints(run, "step-*")
    assert unit == "step" and list(found) == [2, 10, 100]
    assert [folder.name for folder in found.values()] == ["step-2", "step-10", "step-100"]
    assert list(saved_checkpoints(run, "step-1*")[1]) == [10, 100]
    assert saved_checkpoints(run, "epoch-*") == ("epoch", {1: run / "epoch-1"})
    assert saved_checkpoints(run, "global*") == ("step", {7: run / "global_step_7"})


def test_adapters_are_checkpoints_of_a_run_and_alone(run: Path) -> None:
    (run / "step-10" / "config.json").rename(run / "step-10" / "adapter_config.json")
    assert list(saved_checkpoints(run, "step-*")[1]) == [2, 10, 100]
    assert saved_checkpoints(run / "step-10") == ("epoch", {0: run / "step-10"})


def test_checkpoints_inside_of_a_finished_model_are_found_by_pattern(run: Path) -> None:
    (run / "config.json").write_text("{}")
    assert saved_checkpoints(run) == ("epoch", {0: run})
    assert len(saved_checkpoints(run, "step-*")[1]) == 3


def test_a_pattern_keeps_the_epochs_that_the_run_recorded(run: Path) -> None:
    (run / "saves.json").write_text(json.dumps({"step-2": 0.5, "step-10": 2.0, "step-100": 8.0}))
    assert saved_checkpoints(run, "step-1*") == (
        "epoch",
        {2: run / "step-10", 8: run / "step-100"},
    )


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("checkpoint-*", "names such as epoch-1, final, global_step_7"),
        ("logs-*", "no checkpoint of"),
        ("final", "have no order"),
        ("/step-*", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_pattern_without_an_ordered_set_of_checkpoints_is_refused(
    run: Path, pattern: str, part: str
) -> None:
    with pytest.raises(UserError, match=part):
        saved_checkpoints(run, pattern)


def test_numbers_are_those_in_which_the_names_differ() -> None:
    assert numbered(["v2-step-30", "v2-step-4"]) == {4: "v2-step-4", 30: "v2-step-30"}
    assert numbered(["a", "b"]) is None
    assert numbered(["step-1", "step-01"]) is None
    assert unit_of(["Epoch_1", "epoch-2"]) == "epoch" and unit_of(["epoch-1", "x-2"]) == "step"
