"""ASHA stops trials that fall behind on pass@k of their checkpoints; they keep what they have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.report import page
from tests.stack import BASE, read_progress, said
from tests.summaries import a_cell, a_summary, read_cell
from tests.tuning import made_up
from tuning import sweep
from tuning.check_scheduler import check_scheduler
from tuning.open_study import OpenStudy
from tuning.schedulers import scheduler, stopped_note
from tuning.space import Point, points
from tuning.study_record import StudyRecord
from tuning.trial import Pipeline, TrialResult

ASHA = (
    f"base={BASE}",
    "sft.epochs=4",
    "sft.save_epochs=[1,2,3]",
    "eval.samples=8",
    "sweep.scheduler=asha",
    "sweep.fork_density=[1.0,0.0,0.5]",
    "place.dashboard=false",
)


def a_study(root: Path, *settings: str) -> StudyConfig:
    return load(None, [*ASHA, f"place.root={root}", *settings])


class Climbing(Pipeline):
    """Measures a checkpoint after each epoch; a model's pass@8 is its fork density."""

    def run(self, point: Point) -> TrialResult:
        if not point.tuned:
            return result(point, None)
        for epoch in (1.0, 2.0, 3.0):
            self.on_measured(epoch, result(point, epoch))
            ends = time.monotonic() + 20  # the time that training takes; the decision comes earlier
            while time.monotonic() < ends and not self.stopping.is_requested:
                time.sleep(0.1)
                if not is_behind(point, epoch) and time.monotonic() > ends - 18:
                    break
            self.stopping.check()
        return result(point, 4.0)


def is_behind(point: Point, epoch: float) -> bool:
    """Whether ASHA is expected to stop the trial after this epoch: then it waits for that."""
    return (point.varied["fork_density"], epoch) in {(0.0, 1.0), (0.5, 2.0)}


def result(point: Point, epoch: float | None) -> TrialResult:
    value = float(point.varied.get("fork_density", 0.2))
    return made_up.result(point, value, epoch)


@pytest.mark.stack
def test_trials_behind_are_stopped_and_keep_what_they_have(
    tmp_path: Path, shared_ray: None
) -> None:
    study = a_study(tmp_path)
    progress = Progress(study.folder / "progress.jsonl")
    store = Store.of(study.place)
    work = OpenStudy(study, open_checkpoint(BASE), progress, store, "no-sampler", {})
    record = StudyRecord(study, "f" * 32)
    results = sweep.run(work, record.folder, "f" * 32, Climbing)
    reached = {trial.point.name: trial.cells[0].epoch for trial in results}
    assert reached == {
        "base T=1": None,
        "density=1 T=1": 4,
        "density=0 T=1": 1,
        "density=0.5 T=1": 2,
    }
    assert [trial.is_stopped for trial in results] == [False, False, True, True]
    assert [cell.epoch for cell in results[3].dynamics] == [1]
    events = read_progress(progress.path)
    assert said(events, "stopped by the scheduler") == 2

    again = sweep.run(work, record.folder, "f" * 32, Climbing)
    assert again == results, "a stopped trial stays stopped"
    assert "4 of 4 trials had finished and are kept" in read_progress(progress.path)[-1]["message"]


def test_a_scheduler_compares_pass_at_the_largest_k_after_grace_epochs(tmp_path: Path) -> None:
    study = a_study(tmp_path, "sweep.grace_epochs=2", "sweep.reduction=3")
    asha = scheduler(study, points(study))
    assert asha is not None
    assert asha.metric == "pass_at_8"
    assert scheduler(a_study(tmp_path, "sweep.scheduler=none"), points(study)) is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["sft.save_epochs=[]"], "sft.save_epochs"),
        (["sweep.grace_epochs=4"], "sweep.grace_epochs"),
        (["place.overlap=false"], "place.overlap"),
        (["place.engine.while_training=stop"], "while_training"),
    ],
)
def test_a_scheduler_that_could_stop_nothing_is_refused(
    tmp_path: Path, settings: Sequence[str], named: str
) -> None:
    study = a_study(tmp_path, *settings)
    with pytest.raises(UserError, match=named):
        check_scheduler(study, points(study))
    check_scheduler(a_study(tmp_path), points(a_study(tmp_path)))


def test_a_report_shows_stopped_trials_as_training_dynamics_with_a_note(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    stopped = [result(point, 1.0) for point in points(study)[2:3]]
    early = [read_cell(a_cell(density, epoch=1)) for density in (1.0, 0.0)]
    done = a_summary([a_cell(1.0, epoch=4)])
    done = done.model_copy(update={"dynamics": tuple(early)})
    done = done.with_notes([stopped_note(study, stopped, 4)])
    page.write(done, tmp_path / "report", [])
    text = (tmp_path / "report" / "report.html").read_text()
    assert "1 of 4 trials were stopped early by sweep.scheduler=asha" in text
    assert "density=0 T=1 (after epoch 1)" in text
