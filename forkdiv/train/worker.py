"""What each Ray Train worker runs: a DeepSpeed engine, step by step through the batches."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.errors import refuse
from forkdiv.core.gc_pause import gc_paused
from forkdiv.core.progress import Progress
from forkdiv.core.store import publish_folder, write_text
from forkdiv.data import tokenized
from forkdiv.models import lora
from forkdiv.models.digests import write_digests
from forkdiv.train.job import DIVERGED, ROWS, Divergence, TrainingJob, checkpoint_folder
from forkdiv.train.log import LOG, Meter, TrainLog
from forkdiv.train.malloc import keep_freed
from forkdiv.train.packing import deal
from forkdiv.train.resume import TAG
from forkdiv.train.schedule import Batch, Save, batches, learning_rate, saves

JOB = "job"


@dataclass(frozen=True)
class Worker:
    """One rank's engine and what its steps read."""

    engine: Any
    rows: Sequence[tokenized.Row]
    step_ends: Any  # the ids, as a tensor, of tokens that end a line
    config: SftConfig
    place: PlaceConfig
    rank: int
    world: int

    def step(self, batch: Sequence[int]) -> tuple[Any, int]:
        """One optimizer step; this rank's part of the loss, and the batch's response tokens.

        The loss is the mean per response token of the whole batch, times `world`: DeepSpeed
        averages gradients over ranks, whose parts may differ in length. So each part is divided
        by the tokens of the whole batch, which every rank can count, and times `world`.
        """
        rows = [self.rows[i] for i in batch]
        total = sum(len(response) for _, response in rows)
        lengths = [len(prompt) + len(response) for prompt, response in rows]
        passes = deal(lengths, self.world, self.place.micro_batch, self.place.pack_tokens)
        summed: Any = 0.0
        for at, parts in enumerate(passes):
            # gradients add up over the passes, and are exchanged in the last
            self.engine.set_gradient_accumulation_boundary(at + 1 == len(passes))
            loss = self._summed(rows, parts[self.rank]) * (self.world / total)
            self.engine.backward(loss, scale_wrt_gas=False)
            summed = summed + loss.detach()
        self.engine.step()
        return summed, total

    def _summed(self, rows: Sequence[tokenized.Row], lines: Sequence[tuple[int, ...]]) -> Any:
        """The loss summed over the response tokens of one forward pass."""
        from forkdiv.train.collate import collate
        from forkdiv.train.losses.response import response_loss

        read = collate(rows, lines).to(self.engine.device)
        logits = self.engine(**read.inputs, use_cache=False).logits
        return response_loss(logits, read.targets, read.first, self.config, self.step_ends)


def train_worker(config: dict[str, str]) -> None:
    """Load, resume, then step by step through the batches. `config` holds the job as JSON."""
    job = TrainingJob.model_validate_json(config[JOB])
    place, workspace = job.place, job.workspace
    # read when DeepSpeed is imported; not by Ray, which would start processes of another kind
    os.environ |= {"DS_ACCELERATOR": "cuda" if place.device == "gpu" else "cpu"}
    os.environ |= {"DS_LOG_LEVEL": "error"}
    with gc_paused():
        import torch
        from ray import train

        from forkdiv.models.loading import load_tokenizer
        from forkdiv.models.prompting import line_end_ids

    if place.device == "cpu":
        keep_freed()
    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    progress = Progress(job.progress, job.who)
    log = TrainLog(workspace / LOG, rank)
    log.event("worker", step=0, rank=rank, pid=os.getpid())

    tokenizer = load_tokenizer(job.start)
    rows = tokenized.read(workspace / ROWS)
    step_ends = torch.tensor(line_end_ids(tokenizer, rows), dtype=torch.long)
    with gc_paused():
        engine = new_engine(job.start, job.sft, place, world)
    worker = Worker(engine, rows, step_ends, job.sft, place, rank, world)
    done = _resume(engine, job.carried)

    plan = list(batches(len(rows), job.sft))
    if done and rank == 0:
        progress(f"resuming after step {done} of {len(plan)}")
    coming = {save.step: save for save in saves(len(rows), job.sft)}
    meter = Meter(log, progress if rank == 0 else None, job.sft, len(plan))
    engine.train()
    log.event("ready", step=done, rank=rank)
    for at, batch in enumerate(plan[done:], done):
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate(batch.step, len(plan), job.sft)
        # by the step, so that a resumed run drops out what an undisturbed one does
        torch.manual_seed(_seed(job.sft.seed, batch.step, rank))
        meter.step(batch, *worker.step(batch.rows), engine)
        ends = at + 1 == len(plan) or plan[at + 1].epoch != batch.epoch
        kept = ends or (place.resume_every and batch.step % place.resume_every == 0)
        save = coming.get(batch.step)
        if kept or save:
            meter.flush()
        if meter.diverged:
            _give_up(worker, meter.diverged, tokenizer, job)
            return
        if save:
            export(engine, job.sft, tokenizer, checkpoint_folder(workspace, save))
            if rank == 0:
                _drop_older(workspace, list(coming.values()), save, job.sft.keep)
        if kept:
            _report(engine, batch, meter)


def _seed(*parts: int) -> int:
    """A seed of its own for every step and rank."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _drop_older(workspace: Path, coming: list[Save], now: Save, keep: int | None) -> None:
    """Delete checkpoints that `keep` newer ones have followed."""
    done = [save for save in coming if save.step <= now.step]
    for old in done[:-keep] if keep else ():
        folder = checkpoint_folder(workspace, old)
        if folder.exists():
            shutil.rmtree(folder)


def new_engine(start: Path, config: SftConfig, place: PlaceConfig, world: int) -> Any:
    """A DeepSpeed engine around the checkpoint `start`, as the config and the place ask."""
    import torch

    from forkdiv.models.loading import load_model

    with _absent("mlflow"):
        import deepspeed
    # nothing here is compiled, but DeepSpeed's Muon would import torch's compiler: two seconds
    os.environ["TORCHDYNAMO_DISABLE"] = "1"

    # Its shared-memory op would be compiled at every start for nothing on CPU, and a build that
    # is killed leaves a lock behind that hangs the next one for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    torch.manual_seed(config.seed)
    half = config.dtype == "bfloat16"
    model: Any = load_model(start, torch.bfloat16 if half else torch.float32)
    if place.pack_tokens:
        _check_packable(model.config)
    if config.lora.rank:
        model = lora.add_adapters(model, config.lora)
    if place.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=[one for one in model.parameters() if one.requires_grad],
        config=deepspeed_config(config, place, world),
    )
    return engine


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """As if `name` were not installed. DeepSpeed's autotuner, which nothing here uses, imports
    mlflow wherever it is: seconds of the start of every worker."""
    held = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name)
        if held is not None:
            sys.modules[name] = held


def deepspeed_config(config: SftConfig, place: PlaceConfig, world: int) -> dict[str, Any]:
    """DeepSpeed's own settings. How a batch is cut into passes is not among them: `Worker.step`
    does that, and says itself where gradients are exchanged."""
    zero: dict[str, Any] = {
        "stage": place.zero_stage,
        # against fragments in a GPU's memory; on CPU gigabytes that are mapped anew at every step
        "contiguous_gradients": place.device == "gpu",
    }
    if place.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if place.offload == "parameters":
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": config.batch_size // world,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.grad_clip,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.learning_rate,
                "weight_decay": config.weight_decay,
                "torch_adam": True,  # DeepSpeed's own would have to be compiled
                "fused": True,  # one pass over the weights: a quarter of the time
            },
        },
        "zero_force_ds_cpu_optimizer": False,  # the compiled one again, with offload
        "bf16": {"enabled": config.dtype == "bfloat16"},
        "zero_optimization": zero,
        "steps_per_print": 2**31 - 1,
    }


def _check_packable(model: Any) -> None:
    """Refuse to pack where examples side by side would see each other after all."""
    kinds = sorted(set(getattr(model, "layer_types", None) or ["full_attention"]))
    if model._attn_implementation != "sdpa" or kinds != ["full_attention"]:
        raise refuse(
            "this model cannot keep packed examples apart",
            f"attention {model._attn_implementation}, layers {', '.join(kinds)}",
            "scaled dot-product attention over the whole context in every layer",
            "drop place.pack_tokens",
        )


def _give_up(worker: Worker, batch: Batch, tokenizer: Any, job: TrainingJob) -> None:
    """Keep the weights of the last state as a checkpoint, and say what went wrong.

    Not an exception: Ray Train would repeat the same steps to the same end.
    """
    done = _resume(worker.engine, job.carried)
    kept = job.workspace / "last-good"
    if done:
        if worker.rank == 0:
            shutil.rmtree(kept, ignore_errors=True)  # of an earlier attempt
        export(worker.engine, worker.config, tokenizer, kept)
    if worker.rank == 0:
        lost = Divergence(
            epoch=batch.epoch,
            step=batch.step,
            rows=batch.rows,
            done=done,
            kept=kept if done else None,
        )
        write_text(job.workspace / DIVERGED, lost.model_dump_json())


def _resume(engine: Any, carried: Path | None) -> int:
    """Load the last reported state, else the one that is carried over; its step, or 0."""
    from ray import train

    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return _load(engine, carried) if carried else 0
    with checkpoint.as_directory() as folder:
        return _load(engine, Path(folder))


def _load(engine: Any, folder: Path) -> int:
    # read at every load and nowhere else; one run may load both kinds
    engine._config.load_universal_checkpoint = (folder / TAG / "zero").is_dir()
    path, state = engine.load_checkpoint(str(folder), tag=TAG)
    if path is None:
        raise RuntimeError(f"DeepSpeed found no state to resume from in {folder}")
    return int(state["step"])


def _report(engine: Any, batch: Batch, meter: Meter) -> None:
    """Hand the resumable state to Ray Train; every rank writes its own shard."""
    from ray import train

    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag=TAG, client_state={"step": batch.step})
        train.report(
            {"epoch": batch.epoch, "step": batch.step, "loss": meter.loss},
            checkpoint=train.Checkpoint.from_directory(folder),
        )


def export(engine: Any, config: SftConfig, tokenizer: Any, path: Path) -> None:
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
        model = engine.module
        if config.lora.rank:
            model, state = model.get_base_model(), lora.merge_adapters(state, config.lora)
        aside = path.with_name(f".{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        model.save_pretrained(aside, state_dict=state)
        tokenizer.save_pretrained(aside)
        write_digests(aside)
        publish_folder(aside, path)
    dist.barrier()
