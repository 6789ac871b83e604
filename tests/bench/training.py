"""SFT by Ray Train and DeepSpeed against a bare PyTorch loop: same model, batches and threads.

A machine's speed drifts by more than the difference within a minute. So the two take turns of a
few seconds: the worker is stopped while the bare loop steps. And where a trial's start goes.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from forkdiv.core.config.study import (
    DatasetConfig,
    PlaceConfig,
    PromptConfig,
    SftConfig,
    StudyConfig,
)
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset, tokenized
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.tasks.registry import build
from forkdiv.train import log, sft_run
from tests.bench.bare import BareLoop
from tests.bench.row import Row
from tests.stack import BASE
from tuning.session import running

TURNS = SftConfig(epochs=40)
TURN_S, TURN_STEPS = 6.0, 20  # of the worker, and of the bare loop
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
        rows += [_by_turns(name, folder, data, stage) for name, stage in STAGES.items()]
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


def _by_turns(name: str, folder: Path, data: Artifact, stage: int) -> Row:
    """The median over the turns of the worker's rate by the bare loop's before and after it."""
    examples = tokenized.encode_examples(dataset.stream(data.path), BASE, PromptConfig())
    bare = BareLoop(examples, TURNS, threads=1)
    trial = Trial(folder / name, data, {**ONE_THREAD, "zero_stage": stage}, TURNS)
    turns: list[Turn] = []
    with ThreadPoolExecutor(1) as apart:
        training = apart.submit(trial.train)
        pid = trial.worker(training)
        while not training.done():
            with _stopped(pid) as turn:
                turn.rate = bare.rate(TURN_STEPS)
            turns.append(turn)
            time.sleep(TURN_S)
        logged = training.result()
    ratios, rates = [], []
    for before, after in pairwise(turns):
        # each row was written a row late: see Meter
        whole = [
            row.rate
            for first, _, row in zip(logged, logged[1:], logged[2:], strict=False)
            if before.ended < first.time and row.time < after.began
        ]
        if whole:
            rates.append((before.rate + after.rate) / 2)
            ratios.append(median(whole) / rates[-1])
    low, _, high = quantiles(ratios, n=4)
    against = (
        f"a bare loop, 1 thread, {median(rates):.0f} tokens/s; ZeRO stage {stage}; {len(ratios)} "
        f"turns, half of them from {low:.2f} to {high:.2f}"
    )
    return Row(name, median(ratios), "times", against)


@dataclass
class Turn:
    """When the bare loop had the machine to itself, and its response tokens a second."""

    began: float
    ended: float = 0.0
    rate: float = 0.0


@contextmanager
def _stopped(pid: int) -> Iterator[Turn]:
    turn = Turn(time.time())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield turn
    finally:
        os.kill(pid, signal.SIGCONT)
        turn.ended = time.time()


@dataclass(frozen=True)
class Logged:
    """A row of a run's log: when it was written, and the rate over its steps."""

    time: float
    epoch: int
    rate: float


@dataclass
class Trial:
    """One training in a store of its own."""

    folder: Path
    data: Artifact
    where: dict[str, Any]
    config: SftConfig
    began: float = field(default_factory=time.time)

    def train(self) -> list[Logged]:
        self.folder.mkdir()
        place = PlaceConfig(root=self.folder, dashboard=False, **self.where)
        progress = Progress(self.folder / "progress.jsonl")
        store, base = Store(self.folder / "store"), open_checkpoint(BASE)
        self.began = time.time()
        sft_run.obtain(store, self.data, base, self.config, place, progress)
        return [
            Logged(event["time"], event["epoch"], event["response_tokens_per_s"])
            for event in self.events()
            if event["event"] == "step"
        ]

    def events(self) -> list[dict[str, Any]]:
        found = sorted(self.folder.rglob(log.LOG))
        return [json.loads(line) for line in found[0].read_text().splitlines()] if found else []

    def worker(self, training: Future[Any]) -> int:
        """The process id of the only worker, after its first logged step."""
        while not training.done():
            pids = {event["event"]: event.get("pid") for event in self.events()}
            if "step" in pids:
                return int(pids["worker"] or 0)
            time.sleep(0.5)
        raise RuntimeError("the training ended before its first step") from training.exception()

    def first(self) -> dict[str, float]:
        """Seconds from the trainer's start to each first event."""
        first: dict[str, float] = {}
        for event in self.events():
            first.setdefault(event["event"], event["time"] - self.began)
        return first


def _start(name: str, what: str, firsts: Sequence[dict[str, float]]) -> Row:
    imported, ready, step = (
        median(one[event] for one in firsts) for event in ("worker", "ready", "step")
    )
    parts = f"{imported:.1f} to the workers with their imports, {ready - imported:.1f} their engine"
    return Row(name, step, "s", f"{what}: {parts}")
