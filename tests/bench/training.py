"""SFT by Ray Train and DeepSpeed against a bare PyTorch loop: same model, batches and threads.

Tokens a second after the first epoch, which warms up; and where a trial's start goes.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from statistics import median

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


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "store")
        data = dataset.obtain_sft(store, StudyConfig().task, DatasetConfig())
        with running(PlaceConfig(dashboard=False)):
            one, cold = _trained(folder, data, workers=1, cpus=2.0)
            two, warm = _trained(folder, data, workers=2, cpus=1.0)
        bare = _bare(data)
    return [
        Row("train_vs_bare", one / bare, "times", f"a bare loop, 2 threads, {bare:.0f} tokens/s"),
        Row("two_workers_vs_one", two / one, "times", f"one worker, 2 threads, {one:.0f} tokens/s"),
        Row("train_start_s", cold["step"], "s", f"one worker, cold: {_parts(cold)}"),
        Row("train_start_again_s", warm["step"], "s", f"two workers, second: {_parts(warm)}"),
    ]


def _trained(
    folder: Path, data: Artifact, workers: int, cpus: float
) -> tuple[float, dict[str, float]]:
    """Response tokens a second, and the seconds from the trainer's start to each first event."""
    place = PlaceConfig(workers=workers, cpus_per_worker=cpus, root=folder, dashboard=False)
    store = Store(folder / f"store-{workers}")
    progress = Progress(folder / "progress.jsonl")
    began = time.time()
    run = train.obtain(store, data, open_checkpoint(BASE), CONFIG, place, progress)
    rows = train_log.read_log(run.path)
    first: dict[str, float] = {}
    for line in (run.path / train_log.LOG).read_text().splitlines():
        event = json.loads(line)
        first.setdefault(event["event"], event["time"] - began)
    return median(row["response_tokens_per_s"] for row in rows if row["epoch"] > 1), first


def _parts(first: dict[str, float]) -> str:
    imported, ready = first["worker"], first["ready"]
    return f"{imported:.1f} to the workers with their imports, {ready - imported:.1f} their engine"


def _bare(data: Artifact) -> float:
    """The same steps without Ray or DeepSpeed."""
    torch.set_num_threads(2)
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
