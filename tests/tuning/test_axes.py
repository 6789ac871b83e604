"""A made-up axis goes through a whole study by its path: no module of tuning or report names it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.results import Cell, Summary
from forkdiv.coverage import summary
from forkdiv.report import comparison, page
from forkdiv.report.studies import load_studies
from tests.stack import ROOT
from tests.summaries import a_cell
from tuning.live import LiveSweep
from tuning.outcome import write_summary
from tuning.row_lengths import fitting
from tuning.run_params import params
from tuning.space import Point, at, axes, check_data, points

MADE_UP = "sweep.axes.sft.weight_decay=[0, 0.1]"
MEASURED = "sweep.axes.decoder.top_p=[0.9, 1]"


def study(*overrides: str) -> StudyConfig:
    return load(None, overrides)


def cells(point: Point) -> list[Cell]:
    """Cells of the point, with numbers of a toy summary."""
    numbers = a_cell(0.5 if point.tuned else None, changes={1: (0.3, 0.2, 0.4), 16: (0, -1, 1)})
    numbers.pop("fork_density")
    named = numbers | point.cell_name(2 if point.tuned else None).as_json()
    return [Cell.model_validate(json.loads(json.dumps(named)))]


def done(asked: StudyConfig, name: str = "s") -> Summary:
    trials = [cells(point) for point in points(asked)]
    return summary.assemble(asked, "f" * 32, axes(asked), trials, {}).under_name(name)


def test_a_made_up_axis_is_in_trials_cells_summary_report_and_tracking(tmp_path: Path) -> None:
    asked = study(MADE_UP, "sweep.temperature=[0.7,1]")
    check_data(asked)
    names = [point.name for point in points(asked)]
    assert names[:3] == ["base T=0.7", "base T=1", "weight_decay=0 T=0.7"]
    assert at(asked, points(asked)[-1]).sft.weight_decay == 0.1
    assert params(asked, points(asked)[-1])["sft.weight_decay"] == 0.1
    made = done(asked)
    assert made.axes == ("sft.weight_decay",)
    assert {cell.axes["sft.weight_decay"] for cell in made.cells} == {0.0, 0.1}
    read = Summary.model_validate(json.loads(json.dumps(made.as_json())))
    assert read == made
    text = page.write(read, tmp_path).read_text()
    assert "<b>Weight decay</b> is the setting sft.weight_decay: Weight decay of AdamW" in text
    assert "weight decay 0.1" in text


def test_studies_with_different_made_up_axes_are_compared(tmp_path: Path) -> None:
    for name, axis in (("one", MADE_UP), ("two", "sweep.axes.sft.epochs=[1,2]")):
        write_summary(done(study(axis), name), tmp_path / name)
    text = comparison.write(load_studies([tmp_path / "one", tmp_path / "two"]), tmp_path)
    shown = text.read_text()
    assert "weight decay 0.1" in shown and "epochs 2" in shown


def test_an_axis_of_measuring_is_measured_for_the_base_and_trains_nothing(tmp_path: Path) -> None:
    asked = study(MEASURED, "sweep.fork_density=[0,1]")
    grid = points(asked)
    assert [point.name for point in grid] == [
        "base top_p=0.9 T=1",
        "base top_p=1 T=1",
        "density=0 top_p=0.9 T=1",
        "density=0 top_p=1 T=1",
        "density=1 top_p=0.9 T=1",
        "density=1 top_p=1 T=1",
    ]
    assert [at(asked, point).decoder.top_p for point in grid] == [0.9, 1.0] * 3
    assert len({point.trained_as for point in grid if point.tuned}) == 2
    live = LiveSweep(grid, 1)
    assert [live._trains[point.name] for point in grid] == [False, False, *[True, False] * 2]
    made = done(asked)
    assert made.axes == ("fork_density",)
    assert [cell.decoder for cell in made.base] == ["top_p=0.9", "top_p=1"]
    text = page.write(made, tmp_path).read_text()
    assert "measured in 2 ways; unless stated otherwise, this page shows <b>top_p=0.9</b>" in text


def test_settings_that_do_not_fit_each_other_are_refused_before_anything_starts() -> None:
    both = "sweep.axes={decoder.gate_entropy: [0.5], decoder.hot_temperature: [1.5]}"
    check_data(study(both))
    with pytest.raises(UserError, match="must be set together; allowed"):
        check_data(study("sweep.axes.decoder.gate_entropy=[0.5]"))
    with pytest.raises(UserError, match="epoch beyond the last"):
        check_data(study("sweep.axes.sft.epochs=[1,2]", "sft.save_epochs=[2]"))
    with pytest.raises(UserError, match="has no effect on this task"):
        check_data(study("sweep.axes.dataset.mode_share=[0.5]"))


def test_the_seed_of_training_alone_is_a_repetition_on_the_same_data() -> None:
    asked = study("sweep.axes.sft.seed=[3,4]", "dataset.seed=9")
    tuned = [at(asked, point) for point in points(asked) if point.tuned]
    assert [(one.sft.seed, one.dataset.seed) for one in tuned] == [(3, 9), (4, 9)]
    assert axes(asked) == ("fork_density",)


def test_values_that_no_file_can_be_named_by_have_files_of_their_own() -> None:
    asked = study("sweep.axes.sft.lora.targets=[[q_proj],[q_proj, 'a/b']]", "sft.lora.rank=2")
    names = [point.file_name for point in points(asked)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.,+-]{1,110}", name) for name in names)


def own_file(path: Path, count: int, prompt: str = "say {}") -> Path:
    rows = [{"prompt": prompt.format(i), "completion": f"it is {i}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_training_files_are_an_axis_and_part_of_the_identity(tmp_path: Path) -> None:
    one, two = own_file(tmp_path / "a.jsonl", 30), own_file(tmp_path / "b.jsonl", 31)
    test = own_file(tmp_path / "test.jsonl", 9, "ask {}")
    settings = ["task.kind=file", f"task.train={one}", "eval.problems=5"]
    axis = f"sweep.axes.task.train=[{one},{two}]"
    asked = study(*settings, f"task.test={test}", axis)
    check_data(asked)
    assert fitting(asked, [], trains=True, show=print) == asked
    assert [point.tuned for point in points(asked)] == [False, True, True]
    before = asked_identity(asked)
    own_file(two, 32)
    assert asked_identity(study(*settings, f"task.test={test}", axis)) != before
    other = own_file(tmp_path / "c.jsonl", 30, "tell {}")
    with pytest.raises(UserError, match="changes the held-out problems"):
        check_data(study(*settings, f"sweep.axes.task.train=[{one},{other}]", "eval.problems=2"))


def asked_identity(asked: StudyConfig) -> str:
    from forkdiv.models.checkpoint import Checkpoint

    return summary.identity(asked, Checkpoint(Path("base"), "b" * 32)).fingerprint


def test_no_module_of_tuning_or_report_names_an_axis_of_the_data() -> None:
    names = ("fork_density", "branch_coverage", "structure", "direction")
    quoted = [f"{quote}{name}{quote}" for name in names for quote in ("'", '"')]
    for folder in ("tuning", "forkdiv/report"):
        for file in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.j2")]:
            assert not [name for name in quoted if name in file.read_text()], file
