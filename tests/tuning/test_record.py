"""What a trial and a study record for MLflow, read from the files they write."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.results import Cell
from forkdiv.tracking.events import Dataset, Event, File, Metrics, Model, RunEnd, RunStart, Tags
from forkdiv.tracking.outbox import Outbox
from forkdiv.train.log import LOG
from forkdiv.train.stopping import TrialStopped
from tests.summaries import grid_summary
from tuning import record as record_module
from tuning.record import LOSS, TrialRecord
from tuning.run_params import params, settings_tags
from tuning.space import Point, at, points
from tuning.study_record import StudyRecord
from tuning.trial import TrialResult

SWEEP = ("sweep.fork_density=[0,0.5,1]", "sweep.temperature=[0.7,1.0]")


def study(root: Path, *settings: str) -> StudyConfig:
    return load(None, [f"place.root={root}", "name=mine", *SWEEP, *settings])


def tuned_point(of: StudyConfig) -> Point:
    return points(of)[-1]


def events(folder: Path) -> list[Event]:
    return [event for file in sorted(folder.glob("trial-*")) for event in Outbox(file).events()]


def trial(of: StudyConfig, point: Point, notes: list[str] | None = None) -> TrialRecord:
    folder = of.folder / "tracking" / "f"
    return TrialRecord(folder, at(of, point), of, point, point.name, (notes or []).append)


def result(point: Point, valid: bool = True) -> TrialResult:
    cells = [cell for cell in grid_summary().cells if cell.subset == "all"][:1]
    if not valid:
        cells = [cells[0].model_copy(update={"valid": False})]
    return TrialResult(point, "counts", cells, "checkpoint", seconds={"sample": 2.0}, drawn=16)


def values_of(found: list[Event]) -> dict[str, list[tuple[int, float]]]:
    named: dict[str, list[tuple[int, float]]] = {}
    for event in found:
        if isinstance(event, Metrics):
            for value in event.values:
                named.setdefault(value.name, []).append((value.step, value.value))
    return named


def test_a_trial_is_recorded_from_its_start_with_numbers_of_the_moment(tmp_path: Path) -> None:
    of = study(tmp_path)
    began = time.time() * 1000
    with trial(of, tuned_point(of)) as record:
        (start,) = events(record.folder)
        assert isinstance(start, RunStart) and start.started_ms >= began - 1
        assert (start.key, start.parent) == ("f/density=1 T=1", "f")
        assert start.experiment == "forkdiv/mine"
        assert start.tags["mlflow.user"] and start.tags["mlflow.note.content"]
        record.measured({"sample/samples_per_s": 5.0})
        assert values_of(events(record.folder))["sample/samples_per_s"] == [(0, 5.0)]
        record.finished(result(record.point))
    found = events(record.folder)
    assert isinstance(found[-1], RunEnd) and found[-1].status == "FINISHED"
    curve = values_of(found)["pass_at_k"]
    assert curve == [(k, v) for k, v in sorted(curve)] and len(curve) == 3
    (model,) = [event for event in found if isinstance(event, Model)]
    assert model.key == "checkpoint" and model.values
    (data,) = [event for event in found if isinstance(event, Dataset)]
    assert (data.context, len(data.digest)) == ("evaluation", 32)


def test_a_failed_trial_is_failed_and_its_repetition_goes_on_in_the_same_file(
    tmp_path: Path,
) -> None:
    of = study(tmp_path)
    point = tuned_point(of)
    with pytest.raises(ValueError, match="broken"), trial(of, point):
        raise ValueError("broken\nas it is")
    found = events(of.folder / "tracking" / "f")
    assert [type(event) for event in found] == [RunStart, Tags, RunEnd]
    assert isinstance(found[1], Tags) and found[1].tags == {
        "forkdiv.error": "ValueError: broken as it is"
    }
    with trial(of, point) as again:
        again.finished(result(point))
    starts = [event for event in events(again.folder) if isinstance(event, RunStart)]
    assert len(starts) == 2 and starts[0].started_ms == starts[1].started_ms
    size = again._outbox.path.stat().st_size
    with trial(of, point) as third:
        third.measured({"late": 1.0})
        third.finished(result(point))
    assert again._outbox.path.stat().st_size == size, "a finished run stays as it is"


def test_an_invalid_result_is_a_failed_run(tmp_path: Path) -> None:
    of = study(tmp_path)
    with trial(of, tuned_point(of)) as record:
        record.finished(result(record.point, valid=False))
    end = events(record.folder)[-1]
    assert isinstance(end, RunEnd) and end.status == "FAILED"


def test_a_trial_that_a_scheduler_stops_keeps_what_it_measured(tmp_path: Path) -> None:
    of = study(tmp_path)
    record = trial(of, tuned_point(of))

    def run() -> None:
        with record:
            record._step_of = {1.0: 25}
            record.checkpoint(1.0, result(record.point).cells)
            record.checkpoint(1.0, result(record.point).cells)  # from another thread, once more
            raise TrialStopped

    with pytest.raises(TrialStopped):
        run()
    found = events(record.folder)
    named = values_of(found)
    assert [step for step, _ in named["checkpoints/pass_at_1"]] == [25]
    assert len(named["pass_at_1"]) == 1
    assert isinstance(found[-1], RunEnd) and found[-1].status == "FINISHED"


def write_steps(folder: Path, *rows: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a") as file:
        for row in rows:
            file.write(json.dumps({"event": "step", "epoch": 1, **row}) + "\n")


def test_a_training_is_recorded_as_it_is_logged_and_no_step_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "FOLLOW_EVERY_S", 0.02)
    of, log = study(tmp_path), tmp_path / "work"
    with trial(of, tuned_point(of)) as record:
        with record.following(log / LOG):
            write_steps(log, {"step": 1, "time": 100.5, "loss": 2.0, "grad_norm": None})
            deadline = time.monotonic() + 10
            while LOSS not in values_of(events(record.folder)):
                assert time.monotonic() < deadline, "nothing is recorded while it trains"
                time.sleep(0.01)
            write_steps(log, {"step": 5, "time": 101.0, "loss": 1.0, "grad_norm": 0.5})
        record.finished(result(record.point))
    # killed, and continued from a state before step 5
    (record._outbox.path).write_bytes(
        b"".join(
            line for line in record._outbox.path.read_bytes().splitlines(True)
            if b'"kind":"end"' not in line
        )
    )  # fmt: skip
    write_steps(log, {"step": 5, "time": 190.0, "loss": 1.0}, {"step": 6, "time": 191, "loss": 0.5})
    with trial(of, tuned_point(of)) as again, again.following(log / LOG):
        pass
    named = values_of(events(record.folder))
    assert named[LOSS] == [(1, 2.0), (5, 1.0), (6, 0.5)]
    assert named["train/grad_norm"] == [(5, 0.5)]
    times = [
        value.ms
        for event in events(record.folder) if isinstance(event, Metrics)
        for value in event.values if value.name == LOSS
    ]  # fmt: skip
    assert times == [100_500, 101_000, 191_000]


def test_a_file_that_cannot_be_written_is_noted_once_and_costs_nothing(tmp_path: Path) -> None:
    of = study(tmp_path)
    of.folder.mkdir(parents=True)
    (of.folder / "tracking").write_text("in the way")
    notes: list[str] = []
    with TrialRecord(
        of.folder / "tracking" / "f", of, of, tuned_point(of), "t", notes.append
    ) as record:
        record.measured({"a": 1.0})
        record.finished(result(record.point))
    assert len(notes) == 1 and "results do not depend on it" in notes[0]
    StudyRecord(of, "f").start(notes.append)
    assert len(notes) == 2


def test_the_base_has_the_text_base_for_what_only_tuned_models_have(tmp_path: Path) -> None:
    """MLflow draws a missing number beside the largest: the base would pose as density 1.01."""
    of = study(tmp_path)
    plain, tuned = params(of, points(of)[0]), params(of, tuned_point(of))
    assert plain.items() >= {"fork_density": "base", "temperature": 0.7}.items()
    differing = {name for name in tuned if tuned[name] != plain.get(name)}
    assert differing == {"fork_density", "temperature"}
    assert tuned.items() >= {"fork_density": 1.0, "temperature": 1.0}.items()


def test_params_are_what_varies_and_the_settings_of_training(tmp_path: Path) -> None:
    of = study(tmp_path, "sft.epochs=3", "sft.learning_rate=0.002", "sft.lora.rank=8")
    found = params(of, tuned_point(of))
    want = {"sft.epochs": 3, "sft.learning_rate": 0.002, "sft.lora.rank": 8}
    assert found.items() >= want.items()
    assert {"sft.loss", "sft.batch_size"} <= found.keys()
    assert not any("seed" in name for name in found), "a constant crowds the comparison"
    seeds = study(tmp_path, "sweep.seed=[1,2]")
    assert params(seeds, tuned_point(seeds))["seed"] == 2
    assert params(seeds, points(seeds)[0])["seed"] == "base"
    losses = study(tmp_path, "sweep.loss=[cross-entropy,gem]")
    assert "sft.loss" not in params(losses, tuned_point(losses)), "it varies under its short name"


def test_tags_hold_the_effective_decoder(tmp_path: Path) -> None:
    of = study(tmp_path, "decoder.top_p=0.9", "decoder.temperature=0.5", "sweep.seed=[1]")
    held = settings_tags(at(of, tuned_point(of)))
    assert (held["decoder.top_p"], held["decoder.temperature"]) == ("0.9", "1.0")
    assert (held["dataset.fork_density"], held["sft.seed"]) == ("1.0", "1")
    assert (held["task.kind"], held["prompt.template"]) == ("graph_branching", "raw")


def test_a_study_records_its_settings_its_view_and_its_end(tmp_path: Path) -> None:
    of = study(tmp_path, "eval.k=[1,64]", "eval.samples=64")
    record = StudyRecord(of, "f" * 32)
    notes: list[str] = []
    record.start(notes.append)
    start, tags = Outbox(record.folder / "study.jsonl").events()
    assert isinstance(start, RunStart) and isinstance(tags, Tags)
    assert start.params["sft.epochs"] and "place.root" not in start.params
    (view,) = [json.loads(v) for k, v in tags.experiment.items() if "sharedViewState" in k]
    kinds = [chart["type"] for chart in view["compareRunCharts"]]
    assert kinds == ["BAR", "BAR", "LINE", "SCATTER", "PARALLEL", "CONTOUR"]
    assert view["compareRunCharts"][4]["selectedParams"] == ["fork_density", "temperature"]
    assert view["selectedColumns"][:2] == ["params.`fork_density`", "params.`temperature`"]
    (tmp_path / "report.html").write_text("report")
    record.finish(grid_summary(), [tmp_path / "report.html"], notes.append)
    file, end = Outbox(record.folder / "study.jsonl").events()[-2:]
    assert (
        isinstance(file, File) and (record.folder / file.path).resolve() == tmp_path / "report.html"
    )
    assert isinstance(end, RunEnd) and end.status == "FINISHED"
    size = (record.folder / "study.jsonl").stat().st_size
    record.start(notes.append)
    record.finish(grid_summary(), [], notes.append)
    assert (record.folder / "study.jsonl").stat().st_size == size and notes == []


def test_a_study_that_raises_is_a_failed_run(tmp_path: Path) -> None:
    record, notes = StudyRecord(study(tmp_path), "e" * 32), list[str]()
    record.start(notes.append)
    record.failed(notes.append)
    end = Outbox(record.folder / "study.jsonl").events()[-1]
    assert isinstance(end, RunEnd) and end.status == "FAILED"


def test_a_study_of_one_setting_has_no_chart_of_settings(tmp_path: Path) -> None:
    single = load(None, [f"place.root={tmp_path}"])
    tags = StudyRecord(single, "a" * 32)._view()
    (view,) = [json.loads(value) for key, value in tags.items() if "sharedViewState" in key]
    assert [chart["type"] for chart in view["compareRunCharts"]] == [
        "BAR",
        "BAR",
        "LINE",
        "SCATTER",
    ]


def test_cells_of_subsets_have_curves_of_their_own() -> None:
    from tuning.tracked_metrics import curves

    cells: list[Cell] = list(grid_summary().cells[:3])
    names = {value.name for value in curves(cells, 1)}
    assert "pass_at_k" in names and any(name.endswith("/pass_at_k") for name in names)
