"""SFT by Ray Train and DeepSpeed against a bare PyTorch loop: same model, batches and threads.

Tokens a second after the first epoch, which warms up; and where a trial's start goes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from forkdiv import dataset, encoded, train, train_log, train_plan
from forkdiv.artifacts import Artifact, Store
from forkdiv.checkpoint import open_checkpoint
from forkdiv.config import DatasetConfig, PlaceConfig, PromptConfig, SftConfig, StudyConfig
from forkdiv.losses import response_loss
from forkdiv.model import load_model
from forkdiv.progress import Progress
from forkdiv.sheet import sheet
from tests.bench.row import Row
from tests.stack import BASE
from tuning.session import running

CONFIG = SftConfig(epochs=4)
ROUNDS = 4  # of every way, each round in another order, since a machine's speed drifts
BARE = "bare"
ONE_THREAD = {"workers": 1, "cpus_per_worker": 1.0}  # as each of the quickstart's workers has
PLACES: dict[str, dict[str, Any]] = {
    "stage 0": {**ONE_THREAD, "zero_stage": 0},
    "stage 1": ONE_THREAD,
    "two workers": {"workers": 2, "cpus_per_worker": 1.0},
    "two threads": {"workers": 1, "cpus_per_worker": 2.0},
}


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name, running(PlaceConfig(dashboard=False)):
        folder = Path(name)
        data = dataset.obtain_sft(Store(folder / "store"), StudyConfig().task, DatasetConfig())
        cold = _trained(folder / "cold", data, PLACES["stage 1"], SftConfig(epochs=1)).first
        ways = [BARE, *PLACES]
        rates: dict[str, list[float]] = {way: [] for way in ways}
        again = []
        for i in range(ROUNDS):
            for way in ways[i:] + ways[:i]:
                if way == BARE:
                    rates[way].append(_bare(data, threads=1))
                    continue
                trained = _trained(folder / f"{i}-{way}", data, PLACES[way])
                rates[way].append(trained.rate)
                if way == "two workers":
                    again.append(trained.first)
    rate = {way: median(each) for way, each in rates.items()}
    against = f"a bare loop, 1 thread, {rate[BARE]:.0f} tokens/s"
    return [
        Row("train_vs_bare", rate["stage 0"] / rate[BARE], "times", f"{against}; ZeRO stage 0"),
        Row("train_vs_bare_stage_1", rate["stage 1"] / rate[BARE], "times", against),
        Row(
            "two_workers_vs_one",
            rate["two workers"] / rate["two threads"],
            "times",
            f"one worker, 2 threads, {rate['two threads']:.0f} tokens/s",
        ),
        _start("train_start_s", "one worker, cold", [cold]),
        _start("train_start_again_s", "two workers, later ones", again),
    ]


def _start(name: str, what: str, firsts: Sequence[dict[str, float]]) -> Row:
    imported, ready, step = (
        median(one[event] for one in firsts) for event in ("worker", "ready", "step")
    )
    parts = f"{imported:.1f} to the workers with their imports, {ready - imported:.1f} their engine"
    return Row(name, step, "s", f"{what}: {parts}")


@dataclass(frozen=True)
class Trained:
    """Response tokens a second after the first epoch, and the seconds from the trainer's start to
    each first event."""

    rates: list[float]
    first: dict[str, float]

    @property
    def rate(self) -> float:
        return median(self.rates)


def _trained(
    folder: Path, data: Artifact, where: dict[str, Any], config: SftConfig = CONFIG
) -> Trained:
    folder.mkdir()
    place = PlaceConfig(root=folder, dashboard=False, **where)
    progress = Progress(folder / "progress.jsonl")
    began = time.time()
    store, base = Store(folder / "store"), open_checkpoint(BASE)
    run = train.obtain(store, data, base, config, place, progress)
    rows = train_log.read_log(run.path)
    first: dict[str, float] = {}
    for line in (run.path / train_log.LOG).read_text().splitlines():
        event = json.loads(line)
        first.setdefault(event["event"], event["time"] - began)
    return Trained([row["response_tokens_per_s"] for row in rows if row["epoch"] > 1], first)


def _bare(data: Artifact, threads: int) -> float:
    """The same steps without Ray or DeepSpeed."""
    torch.set_num_threads(threads)
    rows = encoded.encoded(dataset.stream(data.path), BASE, PromptConfig())
    model = load_model(BASE)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), CONFIG.learning_rate, weight_decay=0.0)
    plan, rates = list(train_plan.batches(len(rows), CONFIG)), []
    ends = torch.tensor([], dtype=torch.long)
    tokens, began = 0, time.perf_counter()
    for batch in plan:
        for group in optimizer.param_groups:
            group["lr"] = train_plan.learning_rate(batch.step, len(plan), CONFIG)
        mine = [rows[i] for i in batch.rows]
        read = sheet(mine, [(i,) for i in range(len(mine))])
        logits = model(**read.inputs, use_cache=False).logits
        count = sum(len(response) for _, response in mine)
        loss = response_loss(logits, read.targets, read.first, CONFIG, ends) / count
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), CONFIG.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        tokens += count
        if batch.step % train_log.LOG_EVERY_STEPS == 0:
            if batch.epoch > 1:
                rates.append(tokens / (time.perf_counter() - began))
            tokens, began = 0, time.perf_counter()
    return median(rates)
