"""The plan of a study: what trials share, what exists, and an estimate from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.core.store_record import RECORD
from forkdiv.coverage import summary
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.train.log import LOG
from tests.fakes import FakeSampler
from tests.stack import BASE
from tuning.dry_run import dry_run, show
from tuning.models import training_identity
from tuning.space import at, points
from tuning.trial import Pipeline
from tuning.trial_results import TrialResults

SETTINGS = (
    f"base={BASE}",
    "dataset.examples=64",
    "sft.epochs=2",
    "sft.batch_size=16",
    "sft.save_epochs=[1]",
    "eval.problems=10",
    "eval.samples=8",
    "eval.bootstrap=100",
    "sweep.fork_density=[0.0,1.0]",
    "sweep.temperature=[0.7,1.0]",
)


def a_study(root: Path, *settings: str) -> StudyConfig:
    return load(None, [*SETTINGS, f"place.root={root}", *settings])


def printed(study: StudyConfig, capsys: pytest.CaptureFixture[str]) -> str:
    lines: list[str] = []
    show(dry_run(study, open_checkpoint(BASE)), lines.append)
    return "\n".join([*lines, capsys.readouterr().out])


def test_trials_share_datasets_trainings_and_samples(tmp_path: Path) -> None:
    plan = dry_run(a_study(tmp_path), open_checkpoint(BASE))
    assert len(plan.grid) == 6 and plan.kept == 0
    assert len(plan.data.left) == len(plan.training.left) == 2  # whatever the temperatures
    assert plan.training.items == 2 * 64 * 2  # trainings, examples, epochs
    assert len(plan.sampling.left) == 2 + 2 * 2 * 2  # the base; trainings, epochs, temperatures
    assert plan.sampling.items == 10 * 10 * 8
    assert not list(tmp_path.rglob("*")), "it computes and writes nothing"


def test_a_search_by_optuna_is_planned_from_drawn_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ("sweep.search=optuna", "sweep.trials=3", "sweep.axes.sft.weight_decay={range: [0,1]}")
    study = a_study(tmp_path, *search)
    assert len(dry_run(study, open_checkpoint(BASE)).training.left) == 3
    assert "Optuna chooses the trials from results; this plan has drawn ones" in printed(
        study, capsys
    )


def test_it_says_unknown_where_nothing_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(a_study(tmp_path), capsys)
    assert "estimated time: unknown" in text
    assert "training: unknown, since none with this base" in text
    assert "6 trials: 2 of the base, 4 of fine-tuned models; 0 have finished" in text


def test_what_exists_is_not_to_do_and_gives_the_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, base = a_study(tmp_path), open_checkpoint(BASE)
    store, grid = Store.of(study.place), points(study)
    pipeline = Pipeline(study, base, store, FakeSampler(), Progress(tmp_path / "p.jsonl"))
    results = TrialResults.of(study, summary.identity(study, base).fingerprint)
    result = pipeline.run(grid[0])
    result.seconds["sample"] = 40.0  # 80 samples
    results.write(result)
    tuned = at(study, next(point for point in grid if point.tuned))
    trained(store, tuned, seconds=64.0)

    plan = dry_run(study, base)
    assert plan.kept == 1
    assert (plan.training.there, plan.sampling.there) == (1, 1)
    assert plan.rates.sampling is not None and plan.rates.training is not None
    assert plan.rates.sampling.per_second == pytest.approx(2.0)
    assert plan.rates.training.per_second == pytest.approx(2.0, rel=0.05)  # 128 examples in 64 s
    assert plan.hours == pytest.approx((128 / 2 + 9 * 80 / 2) / 3600, rel=0.05)
    text = printed(study, capsys)
    assert "estimated time: about 7 min" in text
    assert "sampling: 2 samples per second in 1 earlier run" in text


def trained(store: Store, study: StudyConfig, seconds: float) -> None:
    """Publishes a training of 8 steps in the store, as one that took `seconds`."""

    def build(folder: Path) -> None:
        rows = [json.dumps({"event": "step", "step": step}) for step in range(1, 9)]
        (folder / LOG).write_text("\n".join(rows))

    store.obtain(training_identity(study, open_checkpoint(BASE)), build)
    (file,) = store.root.glob(f"train/*/{RECORD}")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seconds": seconds}))


def test_a_gpu_study_has_gpu_hours(tmp_path: Path) -> None:
    study = a_study(tmp_path, "place.device=gpu", "place.workers=4")
    plan = dry_run(study, open_checkpoint(BASE))
    assert plan.gpu_hours(2.0, 4) == 8.0
    assert plan.gpu_hours(None, 4) is None
    assert dry_run(a_study(tmp_path), open_checkpoint(BASE)).gpu_hours(2.0, 4) == 0.0
