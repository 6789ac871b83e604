"""MLflow tracking: one parent run per study, one child run per trial. The only module that imports
mlflow.

Runs are looked up by a tag, so that a trial that is repeated after a kill continues its run, and a
finished run is not changed. MLflow does not allow `@` in metric names, so pass@8 is `pass_at_8`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import re
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from filelock import FileLock

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import InvalidResult, UserError, refuse, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

EXPERIMENT = "forkdiv"
STUDY_TAG, TRIAL_TAG = "forkdiv.study", "forkdiv.trial"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"
METRICS_PER_BATCH, PARAMS_PER_BATCH = 900, 100  # the server takes up to 1,000 and 100
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SECONDS = 5.0  # until a server counts as silent
MAX_NAME, MAX_VALUE = 250, 5000  # characters that every server takes
# MLflow's defaults wait 120 s for an answer, and try again for minutes
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
IMPATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


class TrackingFailed(InvalidResult):
    """MLflow did not take something. The results do not depend on it."""


def uri(place: PlaceConfig) -> str:
    """Returns the tracking URI, with an absolute path, because workers run in other directories."""
    return place.mlflow_uri or f"sqlite:///{place.root / 'mlflow.db'}"


@contextmanager
def _taken() -> Iterator[None]:
    """Raises TrackingFailed where MLflow fails. It is also used as a decorator."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, _mlflow_errors()):
            raise
        text = _without_password(shortened(" ".join(str(error).split()), 300))
        raise TrackingFailed(f"MLflow did not take it ({type(error).__name__}: {text})") from error


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

    def check(self) -> None:
        """Raises UserError within seconds if the store does not answer, is damaged, or if its
        experiment was deleted."""
        if self.artifacts:
            _check_database(self.artifacts.parent / "mlflow.db")
        try:
            _check_server(self.uri)
        except (OSError, HTTPException, ValueError) as error:
            raise self._unusable(error) from error
        before = {name: os.environ.get(name) for name in IMPATIENCE}
        os.environ.update(IMPATIENCE)
        try:
            with self._exclusive():
                experiment = self._client().get_experiment_by_name(EXPERIMENT)
        except Exception as error:
            if not isinstance(error, _mlflow_errors()):
                raise
            raise self._unusable(error) from error
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
        if experiment and experiment.lifecycle_stage == "deleted":
            number = experiment.experiment_id
            raise refuse(
                f"the MLflow experiment {EXPERIMENT} was deleted",
                f"experiment {number} in {_without_password(self.uri)}",
                "an experiment that takes runs",
                f"restore it (`mlflow experiments restore --experiment-id {number}`), or delete it "
                "for good (`mlflow gc`)",
            )

    def _unusable(self, error: Exception) -> UserError:
        text = _without_password(" ".join(str(error).split()))
        return refuse(
            "MLflow does not answer",
            f"{_without_password(self.uri)} ({type(error).__name__}: {shortened(text, 200)})",
            "a tracking server that is running, or a database that can be opened",
            "start it, correct place.mlflow_uri, or set place.mlflow_uri=null for a file in "
            "place.root",
        )

    def study(self, fingerprint: str, name: str, params: Mapping[str, float | str]) -> str:
        """Returns the id of the study's parent run; creates the run if it does not exist."""
        with _taken(), self._exclusive():
            client = self._client()
            experiment = self._experiment(client)
            existing = self._find(client, experiment, STUDY_TAG, fingerprint)
            if existing:
                return str(existing.info.run_id)
            tags = {STUDY_TAG: fingerprint, NAME_TAG: name}
            run = client.create_run(experiment, tags=_valid(tags))
            self._params(client, run.info.run_id, params)
            return str(run.info.run_id)

    @_taken()
    def rows(self, run_id: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes metrics of steps to a run while it goes on: each row has its `step` and its `time`
        in seconds since the epoch, so that a row that is written again changes nothing.

        Raises TrackingFailed if MLflow does not take it."""
        from mlflow.entities import Metric

        metrics = [
            Metric(valid_name(key), value, int(row["time"] * 1000), int(row["step"]))
            for row in rows
            for key, value in row.items()
            if key not in ("step", "time")
        ]
        client = self._client()
        for first in range(0, len(metrics), METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[first : first + METRICS_PER_BATCH])

    @_taken()
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
        row of training metrics per `step`; `started` is in seconds since the epoch.

        Raises TrackingFailed if MLflow does not take it."""
        client = self._client()
        experiment = self._experiment(client)
        # the tag includes the parent: two studies may share a trial, and each has a run for it
        key = f"{parent}/{fingerprint}"
        run = self._find(client, experiment, TRIAL_TAG, key)
        if run and run.info.status == "FINISHED":
            return str(run.info.run_id)
        if run is None:
            run_tags = {**tags, PARENT_TAG: parent, TRIAL_TAG: key, NAME_TAG: name}
            run = client.create_run(
                experiment, start_time=int(started * 1000), tags=_valid(run_tags)
            )
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
        run is not changed; an invalid one is written again. Raises TrackingFailed if MLflow does
        not take it."""
        with _taken():
            client = self._client()
            if client.get_run(parent).info.status == "FINISHED":
                return
            self._metrics(client, parent, metrics, [])
            for file in files:
                folder = "figures" if file.suffix == ".png" else None
                client.log_artifact(parent, str(file), folder)
            client.set_terminated(parent, "FINISHED" if valid else "FAILED")

    def experiment_id(self) -> str:
        """Returns the id of the experiment. Raises TrackingFailed if MLflow does not answer."""
        with _taken():
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

        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
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

        rows = [Param(key, value) for key, value in _valid(params).items()]
        for first in range(0, len(rows), PARAMS_PER_BATCH):
            client.log_batch(run_id, params=rows[first : first + PARAMS_PER_BATCH])

    @staticmethod
    def _metrics(
        client: MlflowClient,
        run_id: str,
        metrics: Mapping[str, float],
        history: Sequence[Mapping[str, float]],
    ) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(valid_name(key), value, now, 0) for key, value in metrics.items()]
        rows += [
            Metric(valid_name(key), value, now, int(row["step"]))
            for row in history
            for key, value in row.items()
            if key != "step" and value is not None  # a step may lack a metric
        ]
        for first in range(0, len(rows), METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=rows[first : first + METRICS_PER_BATCH])


def valid_name(name: str) -> str:
    """Returns a name that MLflow takes for a metric, param or tag: the name of a subset may have
    any characters. A name that must be changed ends with a hash, so that two stay two."""
    valid = re.sub(r"[^\w.\- :/]", "_", name) or "_"
    if posixpath.normpath(valid) != valid or valid.startswith(("/", "..")):
        valid = valid.replace("/", "_").strip(".") or "_"
    if valid == name and len(name) <= MAX_NAME:
        return name
    return f"{valid[: MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _valid(values: Mapping[str, float | str]) -> dict[str, str]:
    return {valid_name(key): shortened(str(value), MAX_VALUE) for key, value in values.items()}


def _mlflow_errors() -> tuple[type[Exception], ...]:
    """Returns what MLflow raises: its own errors, those of its database, and those of files and
    connections."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _check_server(uri: str) -> None:
    """Raises OSError, or what urllib raises, if nobody listens or nobody answers in HTTP. Needs no
    import of MLflow; and for a database, SQLAlchemy would try again for minutes."""
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if kind in PORTS and parts.hostname:
        address = (parts.hostname, parts.port or PORTS[kind])
        socket.create_connection(address, timeout=SECONDS).close()
    if kind == "http":
        with suppress(HTTPError):  # an answer: MLflow's client says more
            urlopen(_without_password(uri), timeout=SECONDS).close()


def _check_database(path: Path) -> None:
    """Raises UserError for a file that is no database: MLflow would try again for minutes."""
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(path, timeout=5)
        try:
            connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise refuse(
            "the MLflow database cannot be opened",
            f"{path} ({error})",
            "an SQLite file that MLflow wrote",
            "move it away (a new one is created; results are not in it), or set place.mlflow_uri",
        ) from error
