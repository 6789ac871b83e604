"""The training loop of each Ray Train worker, with a DeepSpeed engine."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.config.sft import FORK_AWARE
from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.gc_pause import gc_paused
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store, publish_folder, write_text
from forkdiv.data import tokenized
from forkdiv.models import lora
from forkdiv.models.cpu import WAITING, threads
from forkdiv.models.digests import write_digests
from forkdiv.models.weights import parameter_count
from forkdiv.train import targets as token_targets
from forkdiv.train.deepspeed_engine import new_engine
from forkdiv.train.job import (
    DIVERGED,
    ROWS,
    TARGETS,
    Divergence,
    TrainingJob,
    checkpoint_folder,
)
from forkdiv.train.log import LOG, Meter, TrainLog
from forkdiv.train.malloc import keep_freed_memory
from forkdiv.train.packing import PackedRow, forward_passes
from forkdiv.train.resume import TAG
from forkdiv.train.schedule import Batch, Save, batches, learning_rate, saved_states, saves

JOB = "job"


@dataclass(frozen=True)
class Worker:
    """One rank's engine and the inputs of its steps."""

    engine: Any
    rows: Sequence[tokenized.Row]
    step_ends: Any  # a tensor of the ids of tokens that end a line
    config: SftConfig
    place: PlaceConfig
    rank: int
    world: int
    boundaries: bool = False  # packed examples are separated by boundaries, not by a mask
    targets: token_targets.TokenTargets | None = None  # for losses that read a learnability table

    def step(self, batch: Sequence[int]) -> tuple[Any, int]:
        """Runs one optimizer step; returns this rank's part of the loss and the number of response
        tokens in the whole batch.

        The loss is the mean over the response tokens of the whole batch, times `world`. DeepSpeed
        averages gradients over the ranks, and the ranks may have different numbers of tokens, so
        each rank divides its sum by the token count of the whole batch and multiplies by `world`.
        """
        rows = [self.rows[i] for i in batch]
        targets = [self.targets.row(i) for i in batch] if self.targets else None
        total = sum(len(response) for _, response in rows)
        lengths = [len(prompt) + len(response) for prompt, response in rows]
        passes = forward_passes(lengths, self.world, self.place.micro_batch, self.place.pack_tokens)
        summed: Any = 0.0
        for i, parts in enumerate(passes):
            # gradients accumulate over the passes and are reduced in the last pass
            self.engine.set_gradient_accumulation_boundary(i + 1 == len(passes))
            loss = self._loss_sum(rows, parts, targets) * (self.world / total)
            self.engine.backward(loss, scale_wrt_gas=False)
            summed = summed + loss.detach()
        self.engine.step()
        return summed, total

    def _loss_sum(
        self,
        rows: Sequence[tokenized.Row],
        packed: Sequence[Sequence[PackedRow]],
        targets: Sequence[token_targets.RowTargets] | None,
    ) -> Any:
        """Returns the loss summed over this rank's response tokens of one forward pass; `packed`
        has the packed rows of every rank, `targets` those of `rows`."""
        from forkdiv.train.collate import collate
        from forkdiv.train.losses.response import response_loss

        batch = collate(rows, packed[self.rank], self.boundaries, targets).to(self.engine.device)
        parts = self._parts(rows, packed)

        def loss(hidden: Any, head: Any) -> Any:
            return response_loss(
                hidden,
                head,
                batch.targets,
                batch.first,
                self.config,
                self.step_ends,
                parts,
                batch.base,
            )

        return self.engine(**batch.inputs, loss=loss)

    def _parts(self, rows: Sequence[tokenized.Row], packed: Sequence[Sequence[PackedRow]]) -> int:
        """Returns in how many parts the logits of a pass are computed. It is the same number on
        every rank: ZeRO-3 gathers the output layer for each part."""
        most = max(sum(len(rows[i][1]) for row in own for i in row) for own in packed)
        vocabulary: int = self.engine.module.config.get_text_config().vocab_size
        tokens_at_once = self.place.logits_gib * 2**30 / 4 / vocabulary
        return max(1, math.ceil(most / tokens_at_once))


def train_worker(config: dict[str, str]) -> None:
    """The function that Ray Train runs on each worker: loads the model, resumes, and trains.

    `config` holds the job as JSON under the key `JOB`.
    """
    job = TrainingJob.model_validate_json(config[JOB])
    place, workspace = job.place, job.workspace
    Store.of(place).whole(job.start)
    # DeepSpeed reads them at import. Not set through Ray: a runtime environment would start
    # separate worker processes.
    os.environ |= {"DS_ACCELERATOR": "cuda" if place.device == "gpu" else "cpu"}
    os.environ |= {"DS_LOG_LEVEL": "error"} | WAITING
    with gc_paused():
        import torch
        from ray import train

        from forkdiv.models.loading import load_tokenizer
        from forkdiv.models.prompting import line_end_ids
        from forkdiv.train import pass_size, varlen_attention

    context = train.get_context()
    workers_here = context.get_local_world_size()
    if place.device == "cpu":
        keep_freed_memory()
        torch.set_num_threads(worker_threads(job.start, place, workers_here))
    rank, world = context.get_world_rank(), context.get_world_size()
    progress = Progress(job.progress, job.who)
    log = TrainLog(workspace / LOG, rank)
    log.event("worker", step=0, rank=rank, pid=os.getpid())

    tokenizer = load_tokenizer(job.start)
    rows = tokenized.read(workspace / ROWS)
    step_ends = torch.tensor(line_end_ids(tokenizer, rows), dtype=torch.long)
    with gc_paused():
        engine = new_engine(job.start, job.sft, place, world)
    gib = pass_size.smallest(pass_size.memory_of_worker(place, workers_here), engine.device)
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    place, line = pass_size.with_pass_size(job.start, job.sft, place, longest, gib)
    if line and rank == 0:
        progress(f"fine-tuning: {line}")
    boundaries = engine.module.config._attn_implementation == varlen_attention.NAME
    path = workspace / TARGETS
    targets = token_targets.read(path) if job.sft.loss == FORK_AWARE else None
    worker = Worker(engine, rows, step_ends, job.sft, place, rank, world, boundaries, targets)
    first = _resume(engine, job.resume_from)

    plan = list(batches(len(rows), job.sft))
    if first and rank == 0:
        progress(f"fine-tuning: resuming after step {first} of {len(plan)}")
    scheduled = {save.step: save for save in saves(len(rows), job.sft)}
    states = saved_states(plan, place.resume_every)
    meter = Meter(log, progress if rank == 0 else None, job.sft, len(plan))
    engine.train()
    log.event("ready", step=first, rank=rank)
    for batch in plan[first:]:
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate(batch.step, len(plan), job.sft)
        # seeded by step, so that dropout in a resumed run equals that of an uninterrupted run
        torch.manual_seed(_seed(job.sft.seed, batch.step, rank))
        meter.step(batch, *worker.step(batch.rows), engine)
        saves_state = batch.step in states
        save = scheduled.get(batch.step)
        if saves_state or save:
            meter.flush()
        if meter.diverged:
            _record_divergence(worker, meter.diverged, tokenizer, job)
            return
        if save:
            export(engine, job.sft, tokenizer, checkpoint_folder(workspace, save))
            if rank == 0:
                _delete_older(workspace, list(scheduled.values()), save, job.sft.keep)
        if saves_state:
            _report_state(engine, batch, meter)


def worker_threads(start: Path, place: PlaceConfig, workers: int) -> int:
    """Returns the CPU threads of each of the `workers` on this machine that train `start`."""
    if place.threads_per_worker:
        return place.threads_per_worker
    return max(int(place.cpus_per_worker), threads(parameter_count(start), workers))


def _seed(*parts: int) -> int:
    """Returns a different seed for every step and rank."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _delete_older(workspace: Path, scheduled: list[Save], now: Save, keep: int | None) -> None:
    """Deletes all but the newest `keep` checkpoints; deletes none where `keep` is None."""
    written = [save for save in scheduled if save.step <= now.step]
    for old in written[:-keep] if keep else ():
        folder = checkpoint_folder(workspace, old)
        if folder.exists():
            shutil.rmtree(folder)


def _record_divergence(worker: Worker, batch: Batch, tokenizer: Any, job: TrainingJob) -> None:
    """Exports the weights of the last saved state as a checkpoint, and writes the divergence.

    It does not raise: Ray Train would retry, and the same steps would diverge again.
    """
    last_step = _resume(worker.engine, job.resume_from)
    checkpoint = job.workspace / "last-good"
    if last_step:
        if worker.rank == 0:
            shutil.rmtree(checkpoint, ignore_errors=True)  # of an earlier attempt
        export(worker.engine, worker.config, tokenizer, checkpoint)
    if worker.rank == 0:
        divergence = Divergence(
            epoch=batch.epoch,
            step=batch.step,
            rows=batch.rows,
            last_step=last_step,
            checkpoint=checkpoint if last_step else None,
        )
        write_text(job.workspace / DIVERGED, divergence.model_dump_json())


def _resume(engine: Any, resume_from: Path | None) -> int:
    """Loads the last reported state, otherwise the state in `resume_from`; returns its step, or 0
    if there is neither."""
    from ray import train

    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return _load(engine, resume_from) if resume_from else 0
    with checkpoint.as_directory() as folder:
        return _load(engine, Path(folder))


def _load(engine: Any, folder: Path) -> int:
    # DeepSpeed reads it at every load; one run may load both universal and ordinary checkpoints
    engine._config.load_universal_checkpoint = (folder / TAG / "zero").is_dir()
    path, state = engine.load_checkpoint(str(folder), tag=TAG)
    if path is None:
        raise RuntimeError(f"DeepSpeed could not load the training state in {folder}")
    return int(state["step"])


def _report_state(engine: Any, batch: Batch, meter: Meter) -> None:
    """Reports the resumable training state to Ray Train; every rank writes its own shard."""
    from ray import train

    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag=TAG, client_state={"step": batch.step})
        train.report(
            {"epoch": batch.epoch, "step": batch.step, "loss": meter.loss},
            checkpoint=train.Checkpoint.from_directory(folder),
        )


def export(engine: Any, config: SftConfig, tokenizer: Any, path: Path) -> None:
    """Writes a Hugging Face checkpoint folder; all ranks must call it, since ZeRO-3 partitions the
    weights."""
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
