"""The function that Ray Train runs: loads the model, resumes, and trains it with TRL."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from forkdiv.core.gc_pause import gc_paused
from forkdiv.core.progress import Progress
from forkdiv.core.store import write_text
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.cpu import WAITING
from forkdiv.rl.job import (
    CHECKPOINTS,
    EPISODES,
    LOG,
    PROBLEMS,
    STATES,
    STOPPED,
    WEIGHTS,
    RlJob,
    Stopped,
    read_problems,
)

JOB = "job"


def rl_worker(config: dict[str, str]) -> None:
    """Trains until the last iteration, or until the run must stop: then the reason is written, and
    the worker ends without an error, since Ray Train would repeat it.

    `config` holds the job as JSON under the key `JOB`.
    """
    job = RlJob.model_validate_json(config[JOB])
    os.environ |= WAITING
    with gc_paused():
        import torch

        from forkdiv.rl.grpo import RunStopped, last_state
    from forkdiv.core.errors import InvalidResult
    from forkdiv.rl.rewards import Rewards
    from forkdiv.tasks.registry import build
    from forkdiv.train.malloc import keep_freed_memory
    from forkdiv.train.worker import worker_threads

    if job.place.device == "cpu":
        keep_freed_memory()
        torch.set_num_threads(worker_threads(job.start, job.place, 1))
    progress = Progress(job.progress, job.who)
    with Rewards(build(job.task), job.tags) as rewards:
        trainer = _trainer(job, rewards, progress)
        state = last_state(job.workspace / STATES)
        _delete_incomplete(job.workspace / STATES, state)
        if state:
            progress(f"rl: resuming after iteration {state.name.partition('-')[2]}")
        try:
            trainer.train(resume_from_checkpoint=str(state) if state else None)
        except RunStopped as stopped:
            _write_stopped(job, stopped.iteration, stopped.reason)
        except InvalidResult as error:
            _write_stopped(job, trainer.state.global_step + 1, str(error))


def _trainer(job: RlJob, rewards: Any, progress: Progress) -> Any:
    import torch

    from forkdiv.models.loading import load_model, load_tokenizer
    from forkdiv.rl.grpo import Trainer, grpo_config
    from forkdiv.rl.meter import Meter
    from forkdiv.rl.prompts import Schedule
    from forkdiv.rl.sampling import Sampling
    from forkdiv.rl.weights import Weights
    from forkdiv.sample.deployment import ServeSampler

    known = list(read_problems(job.workspace / PROBLEMS))
    sampling = Sampling(
        run=job.run,
        schedule=Schedule([problem for problem, _ in known], job.rl),
        asked={problem.id: asked for problem, asked in known},
        decoder=job.decoder,
        sampler=ServeSampler(job.app, job.place.engine),
        rewards=rewards,
        folder=job.workspace / EPISODES,
    )
    with gc_paused():
        model: Any = load_model(job.start, torch.float32)
    model.config._name_or_path = str(job.start)  # TRL loads the reference from it
    weights = Weights(model, job.start, job.workspace / WEIGHTS)
    micro_batch = job.place.micro_batch or job.rl.episodes
    arguments = grpo_config(job.rl, job.decoder, job.place, job.workspace / STATES, micro_batch)
    return Trainer(
        model=model,
        tokenizer=load_tokenizer(job.start),
        start=Checkpoint(job.start, job.start_fingerprint),
        config=job.rl,
        arguments=arguments,
        sampling=sampling,
        weights=weights,
        meter=Meter(job.workspace / LOG, job.rl, progress),
        keep=lambda name: weights.keep(job.workspace / CHECKPOINTS / name),
    )


def _delete_incomplete(states: Path, last: Path | None) -> None:
    """Deletes the states that a kill left incomplete: TRL would count them among those it keeps."""
    for folder in states.glob("checkpoint-*"):
        if folder != last:
            shutil.rmtree(folder)


def _write_stopped(job: RlJob, iteration: int, reason: str) -> None:
    stopped = Stopped(iteration=iteration, reason=reason)
    write_text(job.workspace / STOPPED, stopped.model_dump_json())
