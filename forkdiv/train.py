"""Supervised fine-tuning: Ray Train workers, a DeepSpeed engine in each, Hugging Face folders out.

One run is one artifact: `epoch-0004/` … as ordinary checkpoints and `log.jsonl`. Until it is
published everything lives in its workspace, which outlives a kill; Ray Train resumes there.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from forkdiv import dataset, encoded
from forkdiv.artifacts import Artifact, Store
from forkdiv.checkpoint import Checkpoint
from forkdiv.config import PlaceConfig, PromptConfig, SftConfig
from forkdiv.errors import InvalidResult
from forkdiv.fingerprint import Identity
from forkdiv.progress import Progress
from forkdiv.train_log import LOG, Batch

ROWS, DIVERGED = "rows.npz", "diverged.json"

RAW = PromptConfig()


def identity(data: str, start: str, config: SftConfig, prompt: PromptConfig = RAW) -> Identity:
    """Of the run that fine-tunes checkpoint `start` on dataset `data`, both by fingerprint.

    Workers, ZeRO stage and device are left out: they are where, not what.
    """
    return Identity(
        "train", {"sft": config.deciding, "prompt": prompt}, {"dataset": data, "start": start}
    )


def obtain(
    store: Store,
    data: Artifact,
    start: Checkpoint,
    config: SftConfig,
    place: PlaceConfig,
    progress: Progress,
    prompt: PromptConfig = RAW,
) -> Artifact:
    """The trained run, made by Ray Train where it does not exist yet.

    Raises UserError for examples that cannot be trained on, and InvalidResult where the loss
    stopped being a number.
    """
    what = identity(data.fingerprint, start.fingerprint, config, prompt)

    def make(folder: Path) -> None:
        rows = encoded.encoded(dataset.stream(data.path), start.path, prompt)
        progress(f"fine-tuning: starting {place.workers} workers")
        # by the shards' layout: DeepSpeed resumes with no other number of workers or stage
        workspace = store.workspace(what) / f"w{place.workers}-z{place.zero_stage}-{place.device}"
        workspace.mkdir(parents=True, exist_ok=True)
        (workspace / DIVERGED).unlink(missing_ok=True)
        encoded.write(workspace / ROWS, rows)
        job = {
            "workspace": str(workspace.resolve()),  # Ray's workers change directory
            "start": str(start.path.resolve()),
            "sft": config.model_dump(mode="json"),
            "place": place.model_dump(mode="json"),
            "progress": (str(progress.path.resolve()), progress.who),
        }
        _run(job, place)
        _check_finished(workspace, start)
        for epoch in sorted(saved_epochs(config)):
            # linked, not moved: whatever fails before publishing, the workspace stays whole
            kept = checkpoint_folder(workspace, epoch)
            shutil.copytree(kept, folder / kept.name, copy_function=os.link)
        shutil.copyfile(workspace / LOG, folder / LOG)

    return store.obtain(what, make, progress)


def checkpoints(run: Artifact) -> dict[int, Checkpoint]:
    """The run's checkpoints by epoch, in order."""
    folders = sorted(run.path.glob("epoch-*"))
    return {
        int(folder.name.removeprefix("epoch-")): Checkpoint(
            folder, f"{run.fingerprint}-{folder.name}"
        )
        for folder in folders
    }


def planned(store: Store, run: Identity, config: SftConfig) -> Checkpoint:
    """The checkpoint at the run's end, before it is made."""
    name = _folder_name(config.epochs)
    return Checkpoint(store.path(run) / name, f"{run.fingerprint}-{name}")


def last(run: Artifact) -> Checkpoint:
    """The checkpoint at the run's end."""
    return list(checkpoints(run).values())[-1]


def batches(examples: int, config: SftConfig) -> Iterator[Batch]:
    """All optimizer steps in order: a fresh shuffle per epoch, the last batch may be short."""
    step = 0
    for epoch in range(1, config.epochs + 1):
        order = list(range(examples))
        Random(f"order/{config.seed}/{epoch}").shuffle(order)
        for first in range(0, examples, config.batch_size):
            step += 1
            yield Batch(epoch, step, tuple(order[first : first + config.batch_size]))


def learning_rate(step: int, steps: int, config: SftConfig) -> float:
    """Linear warm-up, then a half cosine to zero; `step` counts from 1."""
    warmup = config.warmup_share * steps
    rising = min(1.0, step / warmup) if warmup else 1.0
    falling = 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
    return config.learning_rate * rising * falling


def saved_epochs(config: SftConfig) -> set[int]:
    return {*config.save_epochs, config.epochs}


def checkpoint_folder(workspace: Path, epoch: int) -> Path:
    """Where an epoch's checkpoint lies until the run is published."""
    return workspace / "checkpoints" / _folder_name(epoch)


def _folder_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def _check_finished(workspace: Path, start: Checkpoint) -> None:
    """Raise InvalidResult where the workers gave up, naming the batch and what is left."""
    if not (workspace / DIVERGED).exists():
        return
    said = json.loads((workspace / DIVERGED).read_text())
    rows = ", ".join(map(str, said["rows"][:8])) + (" …" if len(said["rows"]) > 8 else "")
    kept = said["kept"] or start.path
    after = f"of epoch {said['done']}" if said["done"] else "that it started from"
    raise InvalidResult(
        f"the loss is no number any more at step {said['step']} (epoch {said['epoch']}, examples "
        f"{rows} of the dataset); the weights {after} are kept in {kept}: lower "
        "sft.learning_rate, or look at these examples"
    )


def _run(job: dict[str, Any], place: PlaceConfig) -> None:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from forkdiv.train_worker import train_worker

    workspace = Path(job["workspace"])
    (workspace / "checkpoints").mkdir(parents=True, exist_ok=True)
    gpu = place.device == "gpu"
    resources = {"CPU": place.cpus_per_worker} | ({"GPU": 1.0} if gpu else {})
    TorchTrainer(
        train_worker,
        train_loop_config=job,
        scaling_config=ScalingConfig(
            num_workers=place.workers, use_gpu=gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(
            # the same folder and name again resume the run: no time stamp in either
            name="run",
            storage_path=str(workspace / "ray"),
            failure_config=FailureConfig(
                max_failures=place.max_failures, controller_failure_limit=place.max_failures
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            worker_runtime_env={
                "env_vars": {"DS_ACCELERATOR": "cuda" if gpu else "cpu", "DS_LOG_LEVEL": "error"}
            },
        ),
    ).fit()
