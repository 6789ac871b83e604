"""Starts the workers of a fine-tuning run with Ray Train."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import ray
from ray._common.constants import RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR as BLOCKING_GET
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import (
    DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE,
    get_env_vars_to_propagate,
)
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import PlacementGroup, remove_placement_group

from forkdiv.core.config.place import WORKER_SHARE, PlaceConfig
from forkdiv.core.store import write_text
from forkdiv.train import resume
from forkdiv.train.job import TrainingJob
from forkdiv.train.process_group import ProcessGroup
from forkdiv.train.stopping import Stopping
from forkdiv.train.worker import JOB, train_worker

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
PLACEMENT_GROUP = "placement-group"
CLEANER = PlacementGroupCleanerCallback


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Ray Train's trainer without two callbacks that only delay a run: the actor for Ray Data,
    which is not used here, and, on a Ray that forkdiv started itself, the cleaner of placement
    groups. Such a Ray ends with the command, and nothing is left to clean; but the cleaner queries
    the dashboard, and every run would wait until it times out: 12 s and more."""

    def __init__(
        self, *arguments: Any, own_ray: bool, stopping: Stopping | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self._own_ray, self._stopping = own_ray, stopping or Stopping()

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        """Runs the controller as Ray Train does, so that it can be aborted. Ray Train offers that
        only to Ctrl-C; without it, a trial that a scheduler stops would leave its workers and their
        placement group."""
        variables = get_env_vars_to_propagate()
        variables.setdefault(BLOCKING_GET, DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE)
        node = ray.get_runtime_context().get_node_id()
        controller = ray.remote(
            num_cpus=0,
            label_selector={ray._raylet.RAY_NODE_ID_KEY: node},
            runtime_env={"env_vars": variables},
        )(TrainController).remote(**settings)
        if threading.current_thread() is threading.main_thread():
            self._register_sigint_handler(controller)
        with self._stopping.aborting(lambda: controller.abort.remote()):
            ray.get(controller.run.remote())
            return ray.get(controller.get_result.remote())

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        unused = {DatasetsCallback, CLEANER} if self._own_ray else {DatasetsCallback}
        return [callback for callback in callbacks if type(callback) not in unused]


class NotesPlacementGroup(WorkerGroupCallback):  # type: ignore[misc]
    """Writes the id of a run's placement group to a file. If the trial's process is killed, its
    controller and workers end with it, but the placement group would keep their CPUs and GPUs until
    the driver ends, and the trial, when it is started again, would wait for them for ever."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        handle = worker_group.get_worker_group_state().placement_group_handle
        write_text(self._file, handle.placement_group.id.hex())


def remove_left_placement_group(file: Path) -> None:
    """Removes the placement group that a killed attempt at the same run may have left."""
    if file.is_file():
        id = ray.PlacementGroupID(bytes.fromhex(file.read_text()))
        remove_placement_group(PlacementGroup(id))
        file.unlink()


def fit(job: TrainingJob, stopping: Stopping | None = None) -> None:
    """Runs `job` to its end; resumes an earlier run of the same workspace and layout.

    Raises ray.train.TrainingFailedError if workers failed more often than `place.max_failures`, and
    TrialStopped, without workers left, if `stopping` is requested.
    """
    workspace, place = job.workspace, job.place
    # Ray Train passes it on to its controller; a variable that the user set is not changed
    os.environ.setdefault(START_TIMEOUT, str(place.worker_start_timeout_s))
    (workspace / "checkpoints").mkdir(parents=True, exist_ok=True)
    placement_group = workspace / PLACEMENT_GROUP
    remove_left_placement_group(placement_group)
    gpu = place.device == "gpu"
    Trainer(
        train_worker,
        train_loop_config={JOB: job.model_dump_json()},
        own_ray=place.ray_address is None,
        stopping=stopping,
        scaling_config=scaling(place),
        backend_config=ProcessGroup("nccl" if gpu else "gloo"),
        run_config=RunConfig(
            # no time stamp in name or folder: Ray Train resumes a run with the same two
            name=resume.RUN,
            storage_path=str(resume.layout(workspace, place)),
            failure_config=FailureConfig(
                max_failures=place.max_failures, controller_failure_limit=place.max_failures
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=place.keep_states),
            callbacks=[NotesPlacementGroup(placement_group)],
        ),
    ).fit()


def scaling(place: PlaceConfig) -> ScalingConfig:
    """Returns the number of workers and what Ray reserves for each. Workers always have GPUs of
    their own; a GPU may be shared with the engine."""
    gpu = place.device == "gpu"
    share = WORKER_SHARE if place.engine.takes_turns else 1.0
    resources = {"CPU": place.cpus_per_worker} | ({"GPU": share} if gpu else {})
    return ScalingConfig(num_workers=place.workers, use_gpu=gpu, resources_per_worker=resources)
