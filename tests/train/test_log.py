"""The log of a training run: which steps are read, and when."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from forkdiv.core.config.study import SftConfig
from forkdiv.core.progress import Progress
from forkdiv.train import log
from forkdiv.train.schedule import batches

SFT = SftConfig(epochs=1, batch_size=2)
STEPS = 12


class Engine(SimpleNamespace):
    device = torch.device("cpu")
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])

    def get_global_grad_norm(self) -> float:
        return 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds of the process's clock, in a list that tests add to; one rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    yield now
    dist.destroy_process_group()


def run(folder: Path, clock: list[float], seconds: float) -> list[tuple[int, list[str]]]:
    """The steps' numbers, each with what was shown by the time it ended."""
    progress = Progress(folder / "progress.jsonl")
    meter = log.Meter(log.TrainLog(folder / log.LOG, 0), progress, SFT, STEPS)
    shown = []
    for batch in batches(STEPS * 2, SFT):
        clock[0] += seconds
        meter.step(batch, torch.tensor(1.0), 10, Engine())
        lines = progress.path.read_text().splitlines() if progress.path.exists() else []
        shown.append((batch.step, lines))
    meter.flush()
    return shown


def test_each_step_that_takes_long_is_shown_as_it_ends(tmp_path: Path, clock: Any) -> None:
    for step, lines in run(tmp_path, clock, seconds=8.0):
        assert f"step {step}/{STEPS}" in lines[-1] and len(lines) == step


def test_of_fast_steps_the_first_and_every_fifth_is_read(tmp_path: Path, clock: Any) -> None:
    run(tmp_path, clock, seconds=0.1)
    assert [row["step"] for row in log.read_log(tmp_path)] == [1, 5, 10, 12]


def test_the_loss_of_a_row_is_that_of_all_steps_since_the_last_row(
    tmp_path: Path, clock: Any
) -> None:
    meter = log.Meter(log.TrainLog(tmp_path / log.LOG, 0), None, SFT, STEPS)
    for batch in batches(STEPS * 2, SFT):
        clock[0] += 0.1
        meter.step(batch, torch.tensor(float(batch.step)), 10, Engine())
    meter.flush()
    losses = {row["step"]: row["loss"] for row in log.read_log(tmp_path)}
    assert losses == {1: 1.0, 5: 3.5, 10: 8.0, 12: 11.5}
