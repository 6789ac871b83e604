"""Writes events to an MLflow tracking store. The only module that imports mlflow.

Every method may be repeated: what exists is found and kept. MLflow's own retries are off, because
after a lost answer they would create a run twice.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen
from uuid import uuid4

from filelock import FileLock

from forkdiv.core.errors import InvalidResult, shortened
from forkdiv.tracking.address import Address, artifact_folder_name
from forkdiv.tracking.events import EXPERIMENT, RUN, Dataset, File, Model, RunEnd, RunStart, Value
from forkdiv.tracking.names import valid_name, valid_values, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

KEY_TAG, STUDY_TAG, MODEL_TAG = "forkdiv.run", "forkdiv.study", "forkdiv.model"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"
VALUES_PER_BATCH, PARAMS_PER_BATCH, RUNS_PER_PAGE = 900, 100, 1000  # a server takes 1,000 and 100
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
CONNECT_S = 5.0  # until a server counts as silent
# read when a request is sent; MLflow's defaults wait 120 s and try again for minutes
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
# codes of errors that repeating does not change
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
LOGIN = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}


class Unreachable(InvalidResult):
    """MLflow did not answer, or not as it should; sending again later may work."""


class Refused(InvalidResult):
    """MLflow does not take an event, however often it is sent."""


class RunGone(Refused):
    """The run does not exist any more, for example because the store is a new one."""


class Server:
    """A tracking store. Only one process may write to a run."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def check(self) -> None:
        """Raises Unreachable within seconds if nobody answers. Needs no import of MLflow."""
        uri = self.address.uri
        if self.address.file:
            _check_file(self.address.file)
            return
        parts = urlsplit(uri)
        kind = parts.scheme.partition("+")[0]
        try:
            if kind in PORTS and parts.hostname:
                port = parts.port or PORTS[kind]
                socket.create_connection((parts.hostname, port), timeout=CONNECT_S).close()
            if kind == "http":
                with suppress(HTTPError):  # an answer: MLflow's client says more
                    urlopen(
                        f"{without_password(uri).rstrip('/')}/health", timeout=CONNECT_S
                    ).close()
        except (OSError, HTTPException, ValueError) as error:
            raise Unreachable(_text(error)) from error

    def experiment(self, name: str) -> str:
        """Returns the id of the experiment; creates it if it does not exist."""
        with _answering(), self._creating():
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                return str(self._client.create_experiment(name, self._location(name)))
            if experiment.lifecycle_stage == "deleted":
                raise Unreachable(
                    f"the experiment {name} was deleted; restore it (`mlflow experiments restore "
                    f"--experiment-id {experiment.experiment_id}`), or delete it for good (`mlflow "
                    "gc`)"
                )
            return str(experiment.experiment_id)

    def runs(self, experiment: str, study: str) -> dict[str, str]:
        """Returns the ids of the study's runs by key, the run of the study included."""
        found: dict[str, str] = {}
        token: str | None = None
        with _answering():
            while True:
                page = self._client.search_runs(
                    [experiment],
                    f"tags.`{STUDY_TAG}` = '{study}'",
                    max_results=RUNS_PER_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                for run in page:
                    if key := run.data.tags.get(KEY_TAG):
                        found.setdefault(key, str(run.info.run_id))
                token = page.token
                if not token:
                    return found

    def state(self, run: str) -> str | None:
        """Returns `active` or, for a run that a user deleted, `deleted`; None if there is none."""
        try:
            with _answering():
                return str(self._client.get_run(run).info.lifecycle_stage)
        except RunGone:
            return None

    def create(self, experiment: str, study: str, event: RunStart, parent: str | None) -> str:
        """Creates the run of an event and returns its id. A run with its key must not exist."""
        tags = {**event.tags, KEY_TAG: event.key, STUDY_TAG: study, NAME_TAG: event.name}
        if parent:
            tags[PARENT_TAG] = parent
        with _answering():
            run = self._client.create_run(
                experiment, start_time=event.started_ms, tags=valid_values(tags)
            )
        return str(run.info.run_id)

    def go_on(self, run: str) -> None:
        """Marks a run that has ended as running again: its trial is repeated."""
        with _answering():
            if self._client.get_run(run).info.status != "RUNNING":
                self._client.update_run(run, status="RUNNING")

    def describe(self, experiment: str, run: str, event: RunStart) -> None:
        """Writes the parameters of a run, and its tags again, in which RUN and EXPERIMENT become
        ids."""
        from mlflow.entities import Param

        rows = [Param(name, value) for name, value in valid_values(event.params).items()]
        with _answering():
            for first in range(0, len(rows), PARAMS_PER_BATCH):
                self._client.log_batch(run, params=rows[first : first + PARAMS_PER_BATCH])
        if any(RUN in value or EXPERIMENT in value for value in event.tags.values()):
            self.tag(experiment, run, event.tags)

    def metrics(
        self,
        run: str,
        values: Sequence[Value],
        in_doubt: bool,
        model: str | None = None,
        dataset: tuple[str, str] | None = None,
    ) -> None:
        """Writes values of metrics. With `in_doubt`, those that MLflow has are left out."""
        from mlflow.entities import Metric

        name, digest = dataset or (None, None)
        rows = [
            Metric(valid_name(value.name), value.value, value.ms, value.step, model, name, digest)
            for value in values
        ]
        with _answering():
            if in_doubt and not model:
                rows = self._missing(run, rows)
            for first in range(0, len(rows), VALUES_PER_BATCH):
                self._client.log_batch(run, metrics=rows[first : first + VALUES_PER_BATCH])

    def _missing(self, run: str, rows: list[Metric]) -> list[Metric]:
        has = {
            _identity(row)
            for key in {row.key for row in rows}
            for row in self._client.get_metric_history(run, key)
        }
        return [row for row in rows if _identity(row) not in has]

    def tag(
        self,
        experiment: str,
        run: str,
        tags: Mapping[str, str],
        of_experiment: Mapping[str, str] = {},
    ) -> None:
        """Sets tags of the run and of its experiment; RUN and EXPERIMENT in them become ids."""
        from mlflow.entities import RunTag

        def with_ids(text: str) -> str:
            return text.replace(RUN, run).replace(EXPERIMENT, experiment)

        rows = [RunTag(name, with_ids(value)) for name, value in valid_values(tags).items()]
        with _answering():
            for first in range(0, len(rows), PARAMS_PER_BATCH):
                self._client.log_batch(run, tags=rows[first : first + PARAMS_PER_BATCH])
            for name, value in of_experiment.items():
                self._client.set_experiment_tag(experiment, name, with_ids(value))

    def dataset(self, run: str, event: Dataset) -> None:
        from mlflow.entities import Dataset as Entity
        from mlflow.entities import DatasetInput, InputTag

        entity = Entity(
            valid_name(event.name),
            event.digest[:36],
            "local",
            json.dumps({"uri": event.source}),
            profile=json.dumps(event.profile),
        )
        context = InputTag("mlflow.data.context", event.context)
        with _answering():
            self._client.log_inputs(run, [DatasetInput(entity, [context])])

    def model(self, experiment: str, run: str, event: Model) -> None:
        """Writes a model, its metrics in this run, and which run trained it: the one that names it
        first. For other runs it is an input."""
        from mlflow.entities import LoggedModelInput, LoggedModelOutput

        with _answering():
            found = self._client.search_logged_models(
                [experiment], f"tags.`{MODEL_TAG}` = '{event.key}'", max_results=1
            )
            model = found[0] if found else None
            if model is None:
                model = self._client.create_logged_model(
                    experiment,
                    name=_model_name(event.name),
                    source_run_id=run,
                    tags=valid_values({**event.tags, MODEL_TAG: event.key}),
                    params=valid_values(event.params),
                    model_type="checkpoint",
                )
            if str(model.status) != "READY":
                self._client.finalize_logged_model(model.model_id, "READY")
            if model.model_id in self._models_of(run):  # a database refuses it twice
                pass
            elif model.source_run_id == run:
                self._client.log_outputs(run, [LoggedModelOutput(model.model_id, event.step)])
            else:
                self._client.log_inputs(run, models=[LoggedModelInput(model.model_id)])
        self.metrics(run, event.values, False, model.model_id, event.dataset)

    def _models_of(self, run: str) -> set[str]:
        known = self._client.get_run(run)
        outputs = known.outputs.model_outputs if known.outputs else []
        inputs = known.inputs.model_inputs if known.inputs else []
        return {entry.model_id for entry in [*outputs, *inputs]}

    def file(self, run: str, event: File, path: Path) -> None:
        if not path.is_file():
            raise Refused(f"the file {path} was removed before it was sent")
        with _answering():
            if self.address.artifacts is None:
                self._client.log_artifact(run, str(path), event.folder)
                return
            location = urlsplit(self._client.get_run(run).info.artifact_uri).path.lstrip("/")
            target = self.address.artifacts / location / (event.folder or "")
            target.mkdir(parents=True, exist_ok=True)
            aside = target / f".{path.name}.{uuid4().hex[:8]}"
            shutil.copyfile(path, aside)
            aside.rename(target / path.name)

    def end(self, run: str, event: RunEnd) -> None:
        with _answering():
            self._client.set_terminated(run, event.status, event.ended_ms)

    def _location(self, experiment: str) -> str | None:
        """Of the files of an experiment in a database: an address below the folder that the server
        which shows them is given, so that the output folder can be moved."""
        if self.address.artifacts is None:
            return None
        return f"mlflow-artifacts:/{artifact_folder_name(experiment)}"

    @contextmanager
    def _creating(self) -> Iterator[None]:
        """Holds a lock while a database or an experiment is created: two processes that create it
        at the same time would fail."""
        if self.address.artifacts is None:
            yield
            return
        folder = self.address.artifacts.parent
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "mlflow.lock"):
            yield

    @cached_property
    def _client(self) -> MlflowClient:
        # its lines with addresses of runs would appear between the progress lines
        os.environ |= {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient

        # its lines on database tables would appear between the progress lines
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        return MlflowClient(self.address.uri)


def _identity(metric: Metric) -> tuple[str, int, int, str]:
    return metric.key, metric.timestamp, metric.step, repr(metric.value)


def _model_name(name: str) -> str:
    for character in "/:.%\"'":
        name = name.replace(character, "_")
    return name


@contextmanager
def _answering() -> Iterator[None]:
    """Raises Unreachable, Refused or RunGone for what MLflow raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        code = str(error.error_code)
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise RunGone(_text(error)) from error
        if code in REFUSALS:
            raise Refused(_text(error)) from error
        hint = ""
        if code in LOGIN or " 401" in str(error) or " 403" in str(error):
            hint = "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a valid login"
        raise Unreachable(_text(error) + hint) from error
    except (SQLAlchemyError, OSError) as error:
        raise Unreachable(_text(error)) from error


def _text(error: Exception) -> str:
    text = without_password(shortened(" ".join(str(error).split()), 300))
    return f"{type(error).__name__}: {text}"


def _check_file(path: Path) -> None:
    """Raises Unreachable for a file that is no database: MLflow would try again for minutes."""
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(path, timeout=CONNECT_S)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise Unreachable(
            f"{path} cannot be opened ({error}); move it away: a new one is created, and "
            "`forkdiv track --send` fills it"
        ) from error
