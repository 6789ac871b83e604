"""A training that is stopped leaves nothing behind, and continues from its last state."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import ray
from ray.util import placement_group_table

from forkdiv.core.config.study import DatasetConfig, PlaceConfig, SftConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.tasks.registry import build
from forkdiv.train import sft_run
from forkdiv.train.log import LOG
from forkdiv.train.stopping import Stopping, TrialStopped
from tests.fakes import TASK
from tests.stack import BASE

T = TypeVar("T")
SHORT = SftConfig(epochs=20, batch_size=16, seed=1)
LONG = SftConfig(epochs=60, batch_size=16, save_epochs=(1,), seed=1)


def test_a_stop_reaches_what_runs_and_what_starts_later() -> None:
    stopping, aborted = Stopping(), []
    stopping.check()

    def is_aborted() -> None:
        stopping.request()
        raise RuntimeError("the controller is gone")

    with pytest.raises(TrialStopped), stopping.aborting(lambda: aborted.append("running")):
        is_aborted()
    assert aborted == ["running"]
    with pytest.raises(TrialStopped), stopping.aborting(lambda: aborted.append("never")):
        raise AssertionError("it does not start")
    with pytest.raises(TrialStopped):
        stopping.check()


def test_an_error_without_a_stop_stays_the_error() -> None:
    with pytest.raises(RuntimeError, match="of its own"), Stopping().aborting(lambda: None):
        raise RuntimeError("of its own")


@pytest.mark.stack
def test_a_stopped_training_leaves_no_worker_and_continues(
    tmp_path: Path, shared_ray: None
) -> None:
    store, stopping = Store(tmp_path / "store"), Stopping()
    data = dataset.obtain_sft(store, build(TASK), DatasetConfig(examples=64))
    place = PlaceConfig(root=tmp_path, workers=2, dashboard=False)
    progress = Progress(tmp_path / "progress.jsonl")
    before = _reserved()

    def train(stop: Stopping | None) -> None:
        sft_run.obtain(store, data, open_checkpoint(BASE), LONG, place, progress, stopping=stop)

    raised: list[BaseException] = []

    def first() -> None:
        try:
            train(stopping)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    (workspace,) = _wait(lambda: list(store.root.glob("work/train/*")))
    _wait(lambda: (workspace / "checkpoints/epoch-0001").exists() and _last_step(workspace) > 8)
    stopping.request()
    thread.join(60)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [TrialStopped]
    _wait(lambda: _reserved() == before)
    pids = [event["pid"] for event in _events(workspace) if event["event"] == "worker"]
    assert len(pids) == 2
    _wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    reached = _last_step(workspace)

    train(None)
    (run,) = store.root.glob("train/*")
    ready = [event["step"] for event in _events(run) if event["event"] == "ready"]
    assert ready[0] == 0 and 4 <= ready[-1] <= reached, "it continued from a state"
    assert _last_step(run) == 60 * 4


@pytest.mark.stack
def test_a_training_whose_process_was_killed_does_not_wait_for_its_own_cpus(
    tmp_path: Path, shared_ray: None
) -> None:
    """Both CPUs are the workers'. Ray keeps the placement group of a killed trial."""
    before = _reserved()
    trial = ray.remote(num_cpus=0)(_train_short).options(max_retries=0)
    running = trial.remote(tmp_path)
    (workspace,) = _wait(lambda: list((tmp_path / "store").glob("work/train/*")))
    _wait(lambda: _last_step(workspace) > 0)
    ray.cancel(running, force=True)  # as kill -9
    with pytest.raises(ray.exceptions.RayError):
        ray.get(running, timeout=60)
    _train_short(tmp_path)
    (run,) = (tmp_path / "store").glob("train/*")
    assert _last_step(run) == SHORT.epochs * 4
    _wait(lambda: _reserved() == before)


def _train_short(root: Path) -> None:
    store = Store(root / "store")
    data = dataset.obtain_sft(store, build(TASK), DatasetConfig(examples=64))
    place = PlaceConfig(root=root, workers=2, cpus_per_worker=1, dashboard=False)
    sft_run.obtain(
        store, data, open_checkpoint(BASE), SHORT, place, Progress(root / "progress.jsonl")
    )


def _reserved() -> tuple[float, int]:
    """The CPUs that are free, and the placement groups that hold any."""
    held = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    return ray.available_resources().get("CPU", 0.0), len(held)


def _events(folder: Path) -> list[dict[str, Any]]:
    file = folder / LOG
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _last_step(folder: Path) -> int:
    return max((event["step"] for event in _events(folder) if event["event"] == "step"), default=0)


def _wait(look: Callable[[], T], seconds: float = 240) -> T:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s")
