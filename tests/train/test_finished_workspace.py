"""A run that was killed after its last checkpoint: nothing is trained again."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from forkdiv.core.config.study import DatasetConfig, PlaceConfig, SftConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.tasks.registry import build
from forkdiv.train import sft_run
from forkdiv.train.job import TrainingJob, checkpoint_folder
from forkdiv.train.log import LOG
from forkdiv.train.schedule import Save
from tests.fakes import TASK
from tests.stack import BASE

SFT = SftConfig(epochs=2, batch_size=8, save_epochs=(1,))


@pytest.mark.parametrize(("written", "trained"), [((1, 2), 0), ((1,), 1), ((2,), 1), ((), 1)])
def test_training_starts_only_if_a_checkpoint_is_missing(
    written: tuple[int, ...], trained: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, start = Store(tmp_path / "store"), open_checkpoint(BASE)
    data = dataset.obtain_sft(store, build(TASK), DatasetConfig(examples=16))
    workspace = store.workspace(sft_run.identity(data.fingerprint, start.fingerprint, SFT))

    def write(epochs: tuple[int, ...]) -> None:
        for epoch in epochs:
            folder = checkpoint_folder(workspace, Save(epoch * 2, epoch))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text(str(epoch))
        (workspace / LOG).write_text("")

    jobs: list[TrainingJob] = []

    def fit(job: TrainingJob, stopping: object) -> None:
        jobs.append(job)
        write((1, 2))

    monkeypatch.setitem(sys.modules, "forkdiv.train.trainer", SimpleNamespace(fit=fit))
    workspace.mkdir(parents=True, exist_ok=True)
    write(written)
    run = sft_run.obtain(
        store, data, start, SFT, PlaceConfig(), Progress(tmp_path / "progress.jsonl")
    )
    assert len(jobs) == trained
    assert [(run.path / f"epoch-000{e}" / "config.json").read_text() for e in (1, 2)] == ["1", "2"]
