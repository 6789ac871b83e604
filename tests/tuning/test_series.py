"""Checkpoints measured one after the other: a run that is watched, and the search for its peak.

The sampler is a fake one that answers with the models' own probabilities; everything else is real.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.models import asked
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.report import page
from forkdiv.tracking.sending import Sending
from tests.adapters import saved_adapter
from tests.checkpoints import with_norm
from tests.checkpoints_tokens import edit
from tests.fakes import FakeSampler
from tests.stack import BASE
from tests.tuning.pipelines import faithful
from tuning import resources, snapshots
from tuning import series as series_module
from tuning.comparison import Pair
from tuning.open_study import OpenStudy
from tuning.peak import search_peak
from tuning.watch import watch

PROBLEMS = 4
SETTINGS = (
    *(f"eval.problems={PROBLEMS}", "eval.samples=8", "eval.k=[1,8]", "eval.bootstrap=100"),
    *(f"base={BASE}", "watch.every_s=0.05", "name=series"),
)


class Work(OpenStudy):
    """An opened study without Ray: its sampler is the fake one."""

    fake: FakeSampler

    @property
    def sampler(self) -> Any:
        return self.fake

    def shared(self, checkpoint: Checkpoint) -> Checkpoint:
        return checkpoint


@pytest.fixture
def sampler_and_report(monkeypatch: pytest.MonkeyPatch) -> FakeSampler:
    fake = FakeSampler(chance=faithful)

    @contextmanager
    def opened(
        study: StudyConfig, base: Checkpoint, who: str, show: object, needs: resources.Work
    ) -> Iterator[Work]:
        assert not needs.trains, "GPUs would be counted for workers that never start"
        progress, store = Progress(study.folder / "progress.jsonl"), Store.of(study.place)
        work = Work(study, base, progress, store, None, {})
        object.__setattr__(work, "fake", fake)
        yield work

    monkeypatch.setattr(series_module, "open_study", opened)
    # what is recorded is not sent: MLflow's imports and its new database take seconds
    monkeypatch.setattr(Sending, "_run", lambda self: None)
    return fake


@pytest.fixture
def sampler(sampler_and_report: FakeSampler, monkeypatch: pytest.MonkeyPatch) -> FakeSampler:
    """Without the HTML report, whose figures take longer than everything else here."""
    monkeypatch.setattr(page, "write", lambda *_: None)
    return sampler_and_report


def study(root: Path, *settings: str) -> StudyConfig:
    return load(None, [*SETTINGS, f"place.root={root / 'runs'}", *settings])


def rows(lines: list[str]) -> list[str]:
    """The first column of the table that grows."""
    return [line.split()[0] for line in lines if line.startswith(" ") and "[" in line]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three checkpoints: two whole models, and an adapter with which it ended."""
    folder = tmp_path / "run"
    for step, factor in ((10, 1.3), (20, 0.7)):
        with_norm(folder / f"checkpoint-{step}", factor)
    last = saved_adapter(folder / "checkpoint-30")
    (last / "trainer_state.json").write_text('{"global_step": 30, "max_steps": 30}')
    return folder


def without(summary: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in keys}


def watched(study: StudyConfig, run: Path) -> tuple[Pair, list[str]]:
    asked._LOADED.clear()  # as in a new process: what is left of checkpoints is read again
    asked._ASKED.clear()
    lines: list[str] = []
    _, pair = watch(study, open_checkpoint(BASE), run, lines.append)
    return pair, lines


def test_each_checkpoint_is_measured_until_the_training_ends(
    run: Path, tmp_path: Path, sampler_and_report: FakeSampler
) -> None:
    settings = study(tmp_path)
    pair, lines = watched(settings, run)
    assert list(pair.tuned) == [10, 20, 30] and pair.unit == "step"
    assert rows(lines) == ["10", "20", "30"], lines
    assert lines[-1] == "checkpoint-30 is the last checkpoint: the watch ends"
    assert len(sampler_and_report.asked) == 4 * PROBLEMS, (
        "the base's samples, and those of three checkpoints"
    )
    done = json.loads((settings.folder / "summary.json").read_text())
    assert {cell["epoch"] for cell in done["cells"]} == {30}
    assert {cell["epoch"] for cell in done["dynamics"]} == {10, 20}
    assert done["checkpoints"]["tuned"]["30"] == str(run / "checkpoint-30")
    assert (settings.folder / "report.html").is_file()
    assert not list((settings.folder / "watched").rglob("*.safetensors")), "no weights are kept"


def test_the_summary_on_the_way_is_that_of_the_finished_run(
    run: Path, tmp_path: Path, sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(page, "write", lambda done, *_: written.append(done.as_json()))
    settings = study(tmp_path)
    watched(settings, run)
    done = json.loads((settings.folder / "summary.json").read_text())
    of_run = {"seconds", "created"}
    epochs = [{cell["epoch"] for cell in each["dynamics"]} for each in written]
    assert epochs == [set(), {10}, {10, 20}]
    assert without(written[-1], of_run) == without(done, of_run)


def test_started_again_it_measures_nothing_twice_even_if_the_trainer_deleted_all(
    run: Path, tmp_path: Path, sampler: FakeSampler
) -> None:
    first, _ = watched(study(tmp_path), run)
    before = len(sampler.asked)
    shutil.rmtree(run / "checkpoint-10")
    shutil.rmtree(run / "checkpoint-20")
    with_norm(run / "checkpoint-40", 1.1)
    again, lines = watched(study(tmp_path, "watch.until=40"), run)
    assert rows(lines) == ["10", "20", "30", "40"]
    assert len(sampler.asked) == before + PROBLEMS, "only the new one was sampled"
    assert {n: c.fingerprint for n, c in again.tuned.items() if n < 40} == {
        n: c.fingerprint for n, c in first.tuned.items()
    }


def test_started_again_after_the_training_ended_it_ends_without_sampling(
    run: Path, tmp_path: Path, sampler: FakeSampler
) -> None:
    first, _ = watched(study(tmp_path), run)
    before = len(sampler.asked)
    again, lines = watched(study(tmp_path), run)
    assert rows(lines) == ["10", "20", "30"] and list(again.tuned) == list(first.tuned)
    assert len(sampler.asked) == before


def test_killed_it_still_measures_what_waited_and_was_deleted(
    run: Path, tmp_path: Path, sampler: FakeSampler
) -> None:
    settings = study(tmp_path)
    source = (run / "checkpoint-20").resolve()
    snapshots.take(source, 20, settings.folder / "watched" / "checkpoint-20")
    shutil.rmtree(source)
    pair, _ = watched(settings, run)
    assert list(pair.tuned) == [10, 20, 30]


def test_with_other_settings_what_is_gone_is_named_and_the_rest_is_measured_again(
    run: Path, tmp_path: Path, sampler: FakeSampler
) -> None:
    watched(study(tmp_path), run)
    shutil.rmtree(run / "checkpoint-10")
    pair, lines = watched(study(tmp_path, "eval.samples=16"), run)
    assert list(pair.tuned) == [20, 30]
    assert any("checkpoint-10 is gone, and was measured with other settings" in x for x in lines)


def test_a_checkpoint_trained_again_in_the_same_folder_is_measured_again(
    run: Path, tmp_path: Path, sampler: FakeSampler
) -> None:
    first, _ = watched(study(tmp_path), run)
    shutil.rmtree(run / "checkpoint-20")
    with_norm(run / "checkpoint-20", 2.0)
    again, _ = watched(study(tmp_path, "watch.idle_s=1"), run)
    assert list(again.tuned) == [10, 20, 30]
    changed = {n for n in again.tuned if again.tuned[n].fingerprint != first.tuned[n].fingerprint}
    assert changed == {20}


def test_a_checkpoint_that_cannot_be_measured_is_named_and_the_others_are(
    run: Path, tmp_path: Path, sampler: FakeSampler
) -> None:
    edit(run / "checkpoint-10" / "config.json", rms_norm_eps=0.5)
    edit(run / "checkpoint-20" / "config.json", quantization_config={"quant_method": "awq"})
    pair, lines = watched(study(tmp_path), run)
    assert list(pair.tuned) == [30]
    named = [line for line in lines if "was not measured" in line]
    assert len(named) == 2
    assert "has a different architecture than the base" in named[0]
    assert "is quantised" in named[1]


@pytest.mark.parametrize("end", ["watch.idle_s=0.3", "watch.end_file=done"])
def test_it_ends_after_idle_time_and_with_a_file_of_the_trainer(
    run: Path, tmp_path: Path, sampler: FakeSampler, end: str
) -> None:
    (run / "checkpoint-30" / "trainer_state.json").unlink()
    (run / "done").touch()
    (run / "checkpoint-40").mkdir()
    (run / "checkpoint-40" / "config.json").write_text("{}")
    pair, lines = watched(study(tmp_path, end), run)
    assert list(pair.tuned) == [10, 20, 30]
    assert any("no new checkpoint for" in line for line in lines)
    assert any(line.startswith("checkpoint-40 was not measured: it lacks") for line in lines)


def test_a_watch_that_measured_nothing_is_no_result(tmp_path: Path, sampler: FakeSampler) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidResult, match="no checkpoint of"):
        watched(study(tmp_path, "watch.idle_s=0.2"), tmp_path / "empty")


def test_ctrl_c_ends_it_with_what_is_measured(
    run: Path, tmp_path: Path, sampler: FakeSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = series_module.Series.measure
    calls: list[float] = []

    def interrupted(self: Any, number: float, checkpoint: Checkpoint) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(number)
        return measure(self, number, checkpoint)

    monkeypatch.setattr(series_module.Series, "measure", interrupted)
    pair, lines = watched(study(tmp_path), run)
    assert list(pair.tuned) == [10] and "stopping" in lines


def test_the_search_compares_the_peak_with_the_base_and_names_what_it_measured(
    tmp_path: Path, sampler: FakeSampler
) -> None:
    # the smaller the factor, the flatter the model: pass@8 of this base falls on both sides of 1
    factors = {step: 0.4 + step / 20 for step in range(1, 13)}
    folders: dict[float, Path] = {
        step: with_norm(tmp_path / "run" / f"step-{step}", factor)
        for step, factor in factors.items()
    }
    lines: list[str] = []
    settings = study(tmp_path)
    base = open_checkpoint(BASE)
    done, pair = search_peak(settings, base, "step", folders, lines.append)
    measured = sorted(pair.tuned)
    assert len(measured) < len(folders)
    assert {cell.epoch for cell in done.cells} == {list(pair.tuned)[-1]}
    values = {
        cell.epoch: cell.pass_at[8].value  # type: ignore[union-attr]
        for cell in [*done.cells, *done.dynamics]
        if cell.subset == "all"
    }
    assert set(values) == set(measured)
    best = list(pair.tuned)[-1]
    assert values[best] == max(values.values())
    text = " ".join(done.notes)
    assert f"peak search: {len(measured)} of 12 checkpoints measured" in text
    assert f"is at step {best:g}" in text
    assert "does not separate" in text, "so few problems do not tell neighbours apart"
    again, _ = search_peak(settings, base, "step", folders, lines.append)
    assert again.fingerprint == done.fingerprint
