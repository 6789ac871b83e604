"""The log of a training run: one row per logged step, with the loss over all ranks."""

from __future__ import annotations

import json
import math
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import SftConfig
from forkdiv.core.progress import Progress, duration
from forkdiv.train.schedule import Batch

LOG = "log.jsonl"
LOG_EVERY_STEPS = 5
SLOW_STEP_S = 2.0  # such steps are logged one by one
SHOW_EVERY_S = 3.0


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns one row per logged step; for a step that a retry repeated, the last row."""
    by_step = {}
    for line in (path / LOG).read_text().splitlines():
        with suppress(json.JSONDecodeError):  # a kill can leave an incomplete line
            row = json.loads(line)
            if row["event"] == "step":
                by_step[row["step"]] = row
    return [by_step[step] for step in sorted(by_step)]


class TrainLog:
    """The run's log file. Rank 0 logs the steps; every rank logs its process."""

    def __init__(self, path: Path, rank: int) -> None:
        self._path, self.rank = path, rank

    def event(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, "time": round(time.time(), 3), **values})
        with self._path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")


class Meter:
    """The loss over all ranks, computed without blocking the training steps.

    The all-reduce of the losses starts every `LOG_EVERY_STEPS` steps and is read when the next
    one starts; only `flush`, before a state or a checkpoint is saved, waits for it. So
    `diverged`, the first batch whose loss is NaN or infinite, is known a few steps late, but on
    every rank at the same step and before anything is saved.

    Where a step takes longer than `SLOW_STEP_S`, each is reduced and read at once: waiting then
    costs nothing, and people see every step. The ranks agree on it, since the seconds are reduced
    with the losses; the first step is always read at once.
    """

    def __init__(
        self, log: TrainLog, progress: Progress | None, config: SftConfig, steps: int
    ) -> None:
        self._log, self._progress, self._config, self._steps = log, progress, config, steps
        self._losses: list[Any] = []
        self._batches: list[Batch] = []
        self._tokens = 0
        self._pending: tuple[Any, Any, list[Batch], dict[str, Any]] | None = None
        self.diverged: Batch | None = None
        self._since = self._began = time.perf_counter()
        self._first: int | None = None  # first step of this attempt; a resumed run starts later
        self._show_after = 0.0
        self._each = True  # whether every step is read at once
        self.loss = math.nan

    def step(self, batch: Batch, loss: Any, tokens: int, engine: Any) -> None:
        self._losses.append(loss)
        self._batches.append(batch)
        self._tokens += tokens
        self._engine = engine
        self._first = batch.step if self._first is None else self._first
        if self._each or batch.step % LOG_EVERY_STEPS == 0:
            self._start()
            if self._each:
                self._finish()

    def flush(self) -> None:
        if self._losses:
            self._start()
        self._finish()

    def _start(self) -> None:
        import torch
        import torch.distributed as dist

        self._finish()
        batch, engine = self._batches[-1], self._engine
        seconds = time.perf_counter() - self._since
        per_step = torch.full_like(self._losses[0], seconds / len(self._losses))
        means = torch.stack([*self._losses, per_step]) / dist.get_world_size()
        row = {
            "step": batch.step,
            "epoch": batch.epoch,
            "learning_rate": engine.optimizer.param_groups[0]["lr"],
            "grad_norm": _number(engine.get_global_grad_norm()),
            "response_tokens_per_s": round(self._tokens / seconds, 1),
            "memory_gib": round(_memory(engine.device), 3),
        }
        handle = dist.all_reduce(means, async_op=True)
        self._pending = (handle, means, self._batches, row)
        self._losses, self._batches = [], []
        self._tokens, self._since = 0, time.perf_counter()

    def _finish(self) -> None:
        if self._pending is None:
            return
        handle, means, batches, row = self._pending
        handle.wait()
        self._pending = None
        now = time.perf_counter()
        *losses, seconds = means.tolist()
        self._each = seconds > SLOW_STEP_S
        self.loss = math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan
        bad = [
            batch for batch, loss in zip(batches, losses, strict=True) if not math.isfinite(loss)
        ]
        self.diverged = self.diverged or next(iter(bad), None)
        if self._log.rank == 0:
            self._log.event("step", loss=self.loss, **row)
        if self._progress and (now >= self._show_after or row["step"] == self._steps):
            self._show_after = now + SHOW_EVERY_S
            self._progress(
                f"fine-tuning: step {row['step']}/{self._steps}, "
                f"epoch {row['epoch']}/{self._config.epochs}, loss {self.loss:.4f}, "
                f"learning rate {row['learning_rate']:.2g}{_norm_text(row['grad_norm'])}, "
                f"{row['response_tokens_per_s']:,.0f} response tokens per second, "
                f"{row['memory_gib']:.2g} GiB per worker{self._time_left(row['step'], now)}"
            )

    def _time_left(self, step: int, now: float) -> str:
        done, left = step - (self._first or 1) + 1, self._steps - step
        return f", {duration((now - self._began) / done * left)} left" if left else ""


def _norm_text(norm: float | None) -> str:
    return "" if norm is None else f", gradient norm {norm:.2g}"


def _memory(device: Any) -> float:
    """Returns the peak memory in GiB: of the GPU, or of this process on CPU."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
