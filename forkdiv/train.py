"""Supervised fine-tuning: Ray Train workers, a DeepSpeed engine in each, Hugging Face folders out.

One run is one artifact: `epoch-0004/` … as ordinary checkpoints and `log.jsonl`. Until it is
published everything lives in its workspace, which outlives a kill; Ray Train resumes there.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from forkdiv import dataset
from forkdiv.artifacts import Artifact, Store, publish_folder
from forkdiv.checkpoint import Checkpoint
from forkdiv.config import PlaceConfig, PromptConfig, SftConfig
from forkdiv.fingerprint import Identity
from forkdiv.progress import Progress
from forkdiv.train_log import LOG, Batch, Meter, TrainLog

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
    """The trained run, made by Ray Train where it does not exist yet."""
    what = identity(data.fingerprint, start.fingerprint, config, prompt)

    def make(folder: Path) -> None:
        progress(f"fine-tuning: starting {place.workers} workers")
        # by the shards' layout: DeepSpeed resumes with no other number of workers or stage
        workspace = store.workspace(what) / f"w{place.workers}-z{place.zero_stage}-{place.device}"
        job = {
            "workspace": str(workspace.resolve()),  # Ray's workers change directory
            "data": str(data.path.resolve()),
            "start": str(start.path.resolve()),
            "sft": config.model_dump(mode="json"),
            "prompt": prompt.model_dump(mode="json"),
            "zero_stage": place.zero_stage,
            "progress": (str(progress.path.resolve()), progress.who),
        }
        _run(job, place)
        for epoch in sorted(saved_epochs(config)):
            # linked, not moved: whatever fails before publishing, the workspace stays whole
            name = _folder_name(epoch)
            shutil.copytree(workspace / "checkpoints" / name, folder / name, copy_function=os.link)
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


def _folder_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def _run(job: dict[str, Any], place: PlaceConfig) -> None:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

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


def train_worker(job: dict[str, Any]) -> None:
    """What each worker runs: load, resume, then step by step through the batches."""
    import torch
    from ray import train

    from forkdiv.model import load_model, load_tokenizer
    from forkdiv.prompting import encode, line_ends

    config = SftConfig.model_validate(job["sft"])
    prompt = PromptConfig.model_validate(job["prompt"])
    workspace = Path(job["workspace"])
    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    path, who = job["progress"]
    progress = Progress(Path(path), who)
    log = TrainLog(workspace / LOG, rank)
    log.event("worker", step=0, rank=rank, pid=os.getpid())

    tokenizer = load_tokenizer(Path(job["start"]))
    rows = [
        encode(tokenizer, one.prompt, one.response, prompt)
        for one in dataset.stream(Path(job["data"]))
    ]
    step_ends = torch.tensor(line_ends(tokenizer, rows), dtype=torch.long)
    torch.manual_seed(config.seed)
    dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    engine = _engine(load_model(Path(job["start"]), dtype), config, job["zero_stage"], world)
    done = _resume(engine)
    if done and rank == 0:
        progress(f"resuming after epoch {done}")

    plan = list(batches(len(rows), config))
    meter = Meter(log, progress if rank == 0 else None, config, len(plan))
    engine.train()
    for at, batch in enumerate(plan):
        if batch.epoch <= done:
            continue
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate(batch.step, len(plan), config)
        parts = [rows[i] for i in batch.rows]
        loss, tokens = _loss(engine, parts, rank, world, config, step_ends)
        engine.backward(loss)
        engine.step()
        meter.step(batch, loss.detach(), tokens, engine)
        if at + 1 == len(plan) or plan[at + 1].epoch != batch.epoch:
            meter.flush()
            if batch.epoch in saved_epochs(config):
                _export(engine, tokenizer, workspace / "checkpoints" / _folder_name(batch.epoch))
            _report(engine, batch, meter)


def _engine(model: Any, config: SftConfig, zero_stage: int, world: int) -> Any:
    import deepspeed

    # Its shared-memory op would be compiled at every start for nothing on CPU, and a build that
    # is killed leaves a lock behind that hangs the next one for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=list(model.parameters()),
        config={
            "train_micro_batch_size_per_gpu": config.batch_size // world,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": config.grad_clip,
            "optimizer": {
                "type": "AdamW",
                "params": {
                    "lr": config.learning_rate,
                    "weight_decay": config.weight_decay,
                    "torch_adam": True,  # DeepSpeed's own would have to be compiled
                },
            },
            "bf16": {"enabled": config.dtype == "bfloat16"},
            "zero_optimization": {"stage": zero_stage},
            "steps_per_print": 2**31 - 1,
        },
    )
    return engine


def _loss(
    engine: Any,
    rows: Sequence[tuple[list[int], list[int]]],
    rank: int,
    world: int,
    config: SftConfig,
    step_ends: Any,
) -> tuple[Any, int]:
    """This rank's part of the batch's mean loss per response token, scaled for averaging.

    DeepSpeed averages gradients over ranks, whose parts may differ in length; so each part is
    divided by the tokens of the whole batch, which every rank can count, and times `world`.
    """
    import torch

    from forkdiv.losses import IGNORED, response_loss

    total = sum(len(response) for _, response in rows)
    # a short last batch can leave a rank without rows: it steps along on a masked one
    mine = list(rows[rank::world])
    masked = not mine
    mine = mine or [rows[0]]
    width = max(len(prompt) + len(response) for prompt, response in mine)
    ids = torch.zeros((len(mine), width), dtype=torch.long)
    targets = torch.full((len(mine), width), IGNORED, dtype=torch.long)
    first = torch.zeros((len(mine), width), dtype=torch.bool)
    for at, (prompt, response) in enumerate(mine):
        end = len(prompt) + len(response)
        ids[at, :end] = torch.tensor(prompt + response)
        if not masked:
            targets[at, len(prompt) : end] = torch.tensor(response)
            first[at, len(prompt)] = True
    ids, targets, first = (part.to(engine.device) for part in (ids, targets, first))
    # right padding needs no mask: no position looks at what comes after it
    logits = engine(ids).logits[:, :-1]
    summed = response_loss(logits, targets[:, 1:], first[:, 1:], config, step_ends)
    return summed * (world / total), total


def _resume(engine: Any) -> int:
    """Load the last reported state, where there is one; the last finished epoch, or 0."""
    from ray import train

    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        path, state = engine.load_checkpoint(folder, tag="state")
    if path is None:
        raise RuntimeError(f"DeepSpeed found no state to resume from in {checkpoint}")
    return int(state["epoch"])


def _report(engine: Any, batch: Batch, meter: Meter) -> None:
    """Hand the resumable state to Ray Train; every rank writes its own shard."""
    from ray import train

    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag="state", client_state={"epoch": batch.epoch})
        train.report(
            {"epoch": batch.epoch, "step": batch.step, "loss": meter.loss},
            checkpoint=train.Checkpoint.from_directory(folder),
        )


def _export(engine: Any, tokenizer: Any, path: Path) -> None:
    """Write a Hugging Face folder; every rank takes part where ZeRO-3 spread the weights."""
    import deepspeed
    import torch.distributed as dist

    state = {}
    stage3 = engine.zero_optimization_partition_weights()
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=stage3):
            if dist.get_rank() == 0:
                state[name] = parameter.detach().cpu().clone()
    if dist.get_rank() == 0 and not path.exists():
        aside = path.with_name(f".{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        engine.module.save_pretrained(aside, state_dict=state)
        tokenizer.save_pretrained(aside)
        publish_folder(aside, path)
    dist.barrier()
