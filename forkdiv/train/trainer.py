"""Ray Train around the workers of a fine-tuning run."""

from __future__ import annotations

from typing import Any

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from forkdiv.train import resume
from forkdiv.train.job import TrainingJob
from forkdiv.train.process_group import ProcessGroup
from forkdiv.train.worker import JOB, train_worker

CLEANER = PlacementGroupCleanerCallback


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Without what a run of ours would wait for in vain: the actor that deals out Ray Data, which
    holds none, and, where no dashboard runs, the one that frees the CPUs of a controller that was
    killed: it asks the dashboard who lives, and every run would wait 12 s for it to give up."""

    def __init__(self, *arguments: Any, dashboard: bool, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._dashboard = dashboard

    def _create_default_callbacks(self) -> list[Any]:
        every: list[Any] = super()._create_default_callbacks()
        vain = {DatasetsCallback} if self._dashboard else {DatasetsCallback, CLEANER}
        return [one for one in every if type(one) not in vain]


def fit(job: TrainingJob) -> None:
    """Run `job` to its end; a run of the same workspace and layout goes on where it was.

    Raises ray.train.TrainingFailedError where workers failed more often than `place` allows.
    """
    workspace, place = job.workspace, job.place
    (workspace / "checkpoints").mkdir(parents=True, exist_ok=True)
    gpu = place.device == "gpu"
    resources = {"CPU": place.cpus_per_worker} | ({"GPU": 1.0} if gpu else {})
    Trainer(
        train_worker,
        train_loop_config={JOB: job.model_dump_json()},
        dashboard=place.dashboard,
        scaling_config=ScalingConfig(
            num_workers=place.workers, use_gpu=gpu, resources_per_worker=resources
        ),
        backend_config=ProcessGroup("nccl" if gpu else "gloo"),
        run_config=RunConfig(
            # the same folder and name again resume the run: no time stamp in either
            name=resume.RUN,
            storage_path=str(resume.layout(workspace, place)),
            failure_config=FailureConfig(
                max_failures=place.max_failures, controller_failure_limit=place.max_failures
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=place.keep_states),
        ),
    ).fit()
