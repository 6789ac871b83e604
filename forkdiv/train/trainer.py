"""Starts the workers of a training run with Ray Train."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from forkdiv.core.config.place import WORKER_SHARE, PlaceConfig
from forkdiv.train import resume
from forkdiv.train.job import TrainingJob
from forkdiv.train.process_group import ProcessGroup
from forkdiv.train.worker import JOB, train_worker

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
CLEANER = PlacementGroupCleanerCallback


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Ray Train's trainer without two callbacks that only delay a run: the actor for Ray Data,
    which is not used here, and, on a Ray that forkdiv started itself, the cleaner of placement
    groups. Such a Ray ends with the command, and nothing is left to clean; but the cleaner queries
    the dashboard, and every run would wait until it times out: 12 s and more."""

    def __init__(self, *arguments: Any, own_ray: bool, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._own_ray = own_ray

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        unused = {DatasetsCallback, CLEANER} if self._own_ray else {DatasetsCallback}
        return [callback for callback in callbacks if type(callback) not in unused]


def fit(job: TrainingJob) -> None:
    """Runs `job` to its end; resumes an earlier run of the same workspace and layout.

    Raises ray.train.TrainingFailedError if workers failed more often than `place.max_failures`.
    """
    (job.workspace / "checkpoints").mkdir(parents=True, exist_ok=True)
    storage = resume.layout(job.workspace, job.place)
    run_workers(train_worker, {JOB: job.model_dump_json()}, job.place, storage)


def run_workers(
    loop: Callable[[dict[str, str]], None],
    config: dict[str, str],
    place: PlaceConfig,
    storage: Path,
) -> None:
    """Runs `loop` with `config` on each worker of `place`; Ray Train keeps its files in `storage`.

    Raises ray.train.TrainingFailedError if workers failed more often than `place.max_failures`.
    """
    # Ray Train passes it on to its controller; a variable that the user set is not changed
    os.environ.setdefault(START_TIMEOUT, str(place.worker_start_timeout_s))
    gpu = place.device == "gpu"
    Trainer(
        loop,
        train_loop_config=config,
        own_ray=place.ray_address is None,
        scaling_config=scaling(place),
        backend_config=ProcessGroup("nccl" if gpu else "gloo"),
        run_config=RunConfig(
            # no time stamp in name or folder: Ray Train resumes a run with the same two
            name=resume.RUN,
            storage_path=str(storage),
            failure_config=FailureConfig(
                max_failures=place.max_failures, controller_failure_limit=place.max_failures
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=place.keep_states),
        ),
    ).fit()


def scaling(place: PlaceConfig) -> ScalingConfig:
    """Returns the number of workers and what Ray reserves for each. Workers always have GPUs of
    their own; a GPU may be shared with the engine."""
    gpu = place.device == "gpu"
    share = WORKER_SHARE if place.engine.takes_turns else 1.0
    resources = {"CPU": place.cpus_per_worker} | ({"GPU": share} if gpu else {})
    return ScalingConfig(num_workers=place.workers, use_gpu=gpu, resources_per_worker=resources)
