"""SFT by Ray Train and DeepSpeed and a bare loop, by turns.

A machine's speed drifts by more than the difference within a minute. So the two take turns of some
seconds: the worker is stopped while the bare loop steps.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from forkdiv.core.config.study import PlaceConfig, PromptConfig, SftConfig
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset, tokenized
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.train import log, sft_run
from tests.bench.bare import BareLoop
from tests.bench.row import Row
from tests.stack import BASE


@dataclass(frozen=True)
class Rhythm:
    """The length of the turns: seconds of the worker, and steps of the bare loop."""

    seconds: float
    steps: int


def by_turns(name: str, trial: Trial, rhythm: Rhythm, threads: int, master: bool = False) -> Row:
    """The median over the turns of the worker's rate by the bare loop's before and after it.
    `master`: the bare loop keeps a float32 copy of the weights, as DeepSpeed does."""
    examples = tokenized.encode_examples(
        dataset.stream(trial.data.path), trial.base, PromptConfig()
    )
    bare = BareLoop(trial.base, examples, trial.config, threads, master)
    turns: list[Turn] = []
    with ThreadPoolExecutor(1) as apart:
        training = apart.submit(trial.train)
        pid = trial.worker(training)
        while not training.done():
            with _stopped(pid) as turn:
                turn.rate = bare.rate(rhythm.steps)
            turns.append(turn)
            time.sleep(rhythm.seconds)
        logged = training.result()
    ratios, rates = [], []
    for before, after in pairwise(turns):
        # a row may have been written a row late (see Meter), so its steps began after the row
        # before the last, or earlier
        whole = [
            row.rate
            for first, _, row in zip(logged, logged[1:], logged[2:], strict=False)
            if before.ended < first.time and row.time < after.began
        ]
        if whole:
            rates.append((before.rate + after.rate) / 2)
            ratios.append(median(whole) / rates[-1])
    low, _, high = quantiles(ratios, n=4)
    kept = ", float32 copy of the weights" if master else ""
    against = (
        f"a bare loop{kept}, {threads} thread{'s' * (threads > 1)}, {median(rates):.0f} tokens/s; "
        f"ZeRO stage {trial.where['zero_stage']}; {len(ratios)} turns, half of them from "
        f"{low:.2f} to {high:.2f}"
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
    base: Path = BASE
    began: float = field(default_factory=time.time)

    def train(self) -> list[Logged]:
        self.folder.mkdir()
        place = PlaceConfig(root=self.folder, dashboard=False, **self.where)
        progress = Progress(self.folder / "progress.jsonl")
        store, base = Store(self.folder / "store"), open_checkpoint(self.base)
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
