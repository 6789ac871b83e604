"""MLflow tracking: one parent run per study, one child run per trial. The only module that imports
mlflow.

Runs are looked up by a tag, so that a trial that is repeated after a kill continues its run, and a
finished run is not changed. MLflow does not allow `@` in metric names, so pass@8 is `pass_at_8`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from forkdiv.core.config.study import PlaceConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

EXPERIMENT = "forkdiv"
STUDY_TAG, TRIAL_TAG = "forkdiv.study", "forkdiv.trial"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"
METRICS_PER_BATCH = 900  # the server takes up to 1,000


def uri(place: PlaceConfig) -> str:
    """Returns the tracking URI, with an absolute path, because workers run in other directories."""
    return place.mlflow_uri or f"sqlite:///{place.root / 'mlflow.db'}"


@dataclass(frozen=True)
class Tracker:
    """Writes to one tracking store, in batches. Only one process may write to a run."""

    uri: str
    artifacts: Path | None  # artifact folder of a sqlite store; None for a tracking server

    @classmethod
    def of(cls, place: PlaceConfig) -> Tracker:
        """Returns the tracker of the store that `place` names."""
        artifacts = None if place.mlflow_uri else place.root / "mlartifacts"
        return cls(uri(place), artifacts)

    def study(self, fingerprint: str, name: str, params: Mapping[str, float | str]) -> str:
        """Returns the id of the study's parent run; creates the run if it does not exist."""
        with self._exclusive():
            client = self._client()
            experiment = self._experiment(client)
            existing = self._find(client, experiment, STUDY_TAG, fingerprint)
            if existing:
                return str(existing.info.run_id)
            tags = {STUDY_TAG: fingerprint, NAME_TAG: name}
            run = client.create_run(experiment, tags=tags)
            self._params(client, run.info.run_id, params)
            return str(run.info.run_id)

    def trial(
        self,
        parent: str,
        fingerprint: str,
        name: str,
        params: Mapping[str, float | str],
        tags: Mapping[str, str],
        started: float,
        metrics: Mapping[str, float],
        valid: bool,
        history: Sequence[Mapping[str, float]],
        figures: Mapping[str, Figure],
    ) -> str:
        """Writes one trial and returns its run id; a finished run is not written again. An invalid
        trial gets the status FAILED and is written again when it is repeated. `history` has one
        row of training metrics per `step`; `started` is in seconds since the epoch."""
        client = self._client()
        experiment = self._experiment(client)
        # the tag includes the parent: two studies may share a trial, and each has a run for it
        key = f"{parent}/{fingerprint}"
        run = self._find(client, experiment, TRIAL_TAG, key)
        if run and run.info.status == "FINISHED":
            return str(run.info.run_id)
        if run is None:
            run_tags = {**tags, PARENT_TAG: parent, TRIAL_TAG: key, NAME_TAG: name}
            run = client.create_run(experiment, start_time=int(started * 1000), tags=run_tags)
        run_id = str(run.info.run_id)
        self._params(client, run_id, params)
        self._metrics(client, run_id, metrics, history)
        for file, figure in figures.items():
            client.log_figure(run_id, figure, file)
        client.set_terminated(run_id, "FINISHED" if valid else "FAILED")
        return run_id

    def finish(
        self, parent: str, metrics: Mapping[str, float], files: Sequence[Path], valid: bool
    ) -> None:
        """Ends the study's run with its headline metrics and the report as artifacts. A finished
        run is not changed; an invalid one is written again."""
        client = self._client()
        if client.get_run(parent).info.status == "FINISHED":
            return
        self._metrics(client, parent, metrics, [])
        for file in files:
            client.log_artifact(parent, str(file), "figures" if file.suffix == ".png" else None)
        client.set_terminated(parent, "FINISHED" if valid else "FAILED")

    def experiment_id(self) -> str:
        return self._experiment(self._client())

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Holds a lock while a sqlite file or a parent run is created: two processes that create it
        at the same time would fail, or create two runs. A server needs no lock."""
        if self.artifacts is None:
            yield
            return
        self.artifacts.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.artifacts.parent / "mlflow.lock"):
            yield

    def _client(self) -> MlflowClient:
        import mlflow
        from mlflow import MlflowClient

        # its lines on database tables would appear between the progress lines
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self.uri)
        return MlflowClient(self.uri)

    def _experiment(self, client: MlflowClient) -> str:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment:
            return str(experiment.experiment_id)
        location = self.artifacts.as_uri() if self.artifacts else None
        return str(client.create_experiment(EXPERIMENT, artifact_location=location))

    @staticmethod
    def _find(client: MlflowClient, experiment: str, tag: str, value: str) -> Any:
        runs = client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1)
        return runs[0] if runs else None

    @staticmethod
    def _params(client: MlflowClient, run_id: str, params: Mapping[str, float | str]) -> None:
        from mlflow.entities import Param

        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    @staticmethod
    def _metrics(
        client: MlflowClient,
        run_id: str,
        metrics: Mapping[str, float],
        history: Sequence[Mapping[str, float]],
    ) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(key, value, now, 0) for key, value in metrics.items()]
        rows += [
            Metric(key, value, now, int(row["step"]))
            for row in history
            for key, value in row.items()
            if key != "step" and value is not None  # a step may lack a metric
        ]
        for first in range(0, len(rows), METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=rows[first : first + METRICS_PER_BATCH])
