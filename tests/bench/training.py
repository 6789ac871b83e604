"""SFT by Ray Train and DeepSpeed against a bare PyTorch loop: same model, batches and threads. And
where a trial's start goes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from forkdiv.core.config.study import DatasetConfig, PlaceConfig, SftConfig, StudyConfig
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.tasks.registry import build
from tests.bench.row import Row
from tests.bench.turns import Rhythm, Trial, by_turns
from tuning.session import running

TURNS = SftConfig(epochs=40)
RHYTHM = Rhythm(seconds=6.0, steps=20)
CONFIG = SftConfig(epochs=4)
ROUNDS = 4  # of two workers and of one with two threads
ONE_THREAD = {"workers": 1, "cpus_per_worker": 1.0}  # as each of the quickstart's workers has
STAGES = {"train_vs_bare": 0, "train_vs_bare_stage_1": 1}
PLACES: dict[str, dict[str, Any]] = {
    "two workers": {"workers": 2, "cpus_per_worker": 1.0},
    "two threads": {"workers": 1, "cpus_per_worker": 2.0},
}


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name, running(PlaceConfig(dashboard=False)):
        folder = Path(name)
        data = dataset.obtain_sft(
            Store(folder / "store"), build(StudyConfig().task), DatasetConfig()
        )
        cold = Trial(folder / "cold", data, ONE_THREAD, SftConfig(epochs=1))
        cold.train()
        rows = [_start("train_start_s", "one worker, cold", [cold.first()])]
        for name, stage in STAGES.items():
            trial = Trial(folder / name, data, {**ONE_THREAD, "zero_stage": stage}, TURNS)
            rows.append(by_turns(name, trial, RHYTHM, threads=1))
        rates: dict[str, list[float]] = {way: [] for way in PLACES}
        again = []
        for i in range(ROUNDS):
            for way in list(PLACES)[:: 1 if i % 2 else -1]:
                trial = Trial(folder / f"{i}-{way}", data, PLACES[way], CONFIG)
                rates[way].append(median(one.rate for one in trial.train() if one.epoch > 1))
                if way == "two workers":
                    again.append(trial.first())
    rate = {way: median(each) for way, each in rates.items()}
    against = f"one worker, 2 threads, {rate['two threads']:.0f} tokens/s"
    return [
        *rows,
        Row("two_workers_vs_one", rate["two workers"] / rate["two threads"], "times", against),
        _start("train_start_again_s", "two workers, later ones", again),
    ]


def _start(name: str, what: str, firsts: Sequence[dict[str, float]]) -> Row:
    imported, ready, step = (
        median(one[event] for one in firsts) for event in ("worker", "ready", "step")
    )
    parts = f"{imported:.1f} to the workers with their imports, {ready - imported:.1f} their engine"
    return Row(name, step, "s", f"{what}: {parts}")
