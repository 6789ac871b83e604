"""Training that shares its memory with an engine: workers run in a turn, and only there."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from forkdiv.core.config.study import DatasetConfig, EngineConfig, PlaceConfig, SftConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.tasks.registry import build
from forkdiv.train import eval_during, sft_run
from forkdiv.train.job import TrainingJob, checkpoint_folder
from forkdiv.train.log import LOG
from forkdiv.train.schedule import Save
from tests.fakes import TASK
from tests.stack import BASE

SFT = SftConfig(epochs=2, batch_size=8, save_epochs=(1,))


@pytest.mark.parametrize(("takes_turns", "evaluated"), [(True, []), (False, [1])])
def test_workers_run_in_one_turn_in_which_nothing_is_evaluated(
    takes_turns: bool, evaluated: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    seen: list[float] = []

    def fit(job: TrainingJob, stopping: object) -> None:
        happened.append("fit")
        for epoch in (1, 2):
            folder = checkpoint_folder(job.workspace, Save(epoch * 2, epoch))
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(str(epoch))
            time.sleep(0.5)
        (job.workspace / LOG).write_text("")

    @contextmanager
    def turn() -> Iterator[None]:
        happened.append("begin")
        yield
        happened.append("end")

    def evaluate(epoch: float, checkpoint: Checkpoint) -> None:
        seen.append(epoch)

    monkeypatch.setattr(eval_during, "POLL_S", 0.01)
    monkeypatch.setitem(sys.modules, "forkdiv.train.trainer", SimpleNamespace(fit=fit))
    store, start = Store(tmp_path / "store"), open_checkpoint(BASE)
    data = dataset.obtain_sft(store, build(TASK), DatasetConfig(examples=16))
    engine = EngineConfig(while_training="stop" if takes_turns else "beside")
    place, progress = PlaceConfig(engine=engine), Progress(tmp_path / "progress.jsonl")
    for _ in range(2):  # the second time the run is in the store
        sft_run.obtain(store, data, start, SFT, place, progress, evaluate=evaluate, turn=turn)
        assert happened == ["begin", "fit", "end"]
    assert seen == evaluated
