"""The MLflow run of a study or a comparison, which the runs of its trials belong to."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from forkdiv.core.code_version import commit
from forkdiv.core.config.study import NOT_IDENTITY, StudyConfig
from forkdiv.core.fingerprint import canonical
from forkdiv.core.results import Summary, TrackedRun
from forkdiv.core.results.tracked import MODEL_TRAINING
from forkdiv.coverage import summary
from forkdiv.tracking.address import Address, experiment_name
from forkdiv.tracking.events import (
    EXPERIMENT,
    RUN,
    File,
    Metrics,
    RunEnd,
    RunStart,
    Tags,
    milliseconds,
    values_now,
)
from forkdiv.tracking.outbox import Outbox, study_folder
from forkdiv.tracking.sender import STUDY, Sender
from forkdiv.tracking.sending import Sending
from forkdiv.tracking.server import Server
from forkdiv.tracking.view import view_key, view_tags
from tuning.record import TrialRecord
from tuning.run_params import BASE, params, user
from tuning.space import Point, points
from tuning.trial import TrialResult

MAX_TRIALS = 2000  # that are looked at to find out what varies


@dataclass(frozen=True)
class StudyRecord:
    """The events of a study with this fingerprint, in `folder`."""

    study: StudyConfig
    fingerprint: str

    @property
    def folder(self) -> Path:
        return study_folder(self.study.folder, self.fingerprint).resolve()

    def start(self, show: Callable[[str], None]) -> None:
        """Records that the study runs, unless its run has finished well."""
        outbox = Outbox(self.folder / STUDY)
        with _noted(self.folder, show):
            if not outbox.is_finished:
                outbox.add(self._start(), Tags(experiment=self._view()))

    def ensure_started(self, show: Callable[[str], None]) -> None:
        """As `start`, unless that is recorded: the results may be from another study's store."""
        if not (self.folder / STUDY).is_file():
            self.start(show)

    @contextmanager
    def running(self, show: Callable[[str], None]) -> Iterator[None]:
        """Records that the study runs in the block, and sends what is recorded meanwhile. An
        exception makes it a failed run."""
        self.start(show)
        with self.sending(show):
            try:
                yield
            except BaseException:
                self.failed(show)
                raise

    def sending(self, show: Callable[[str], None]) -> Sending:
        """Returns the sender of the events, for a `with` block."""
        return Sending(self.folder, Address.of(self.study.place), self.study.name, show)

    def trial(self, point: Point, name: str, note: Callable[[str], None]) -> TrialRecord:
        """Returns the record of a trial; `self.study` has the settings of its point."""
        return TrialRecord(self.folder, self.study, self.study, point, name, note)

    def compared(self, trials: Sequence[TrialResult], show: Callable[[str], None]) -> None:
        """Records the base and the tuned checkpoints of a comparison as a trial each."""
        for trial in trials:
            name = "tuned" if trial.point.tuned else BASE
            with self.trial(trial.point, name, show) as record:
                record.finished(trial)

    def finish(self, done: Summary, files: Sequence[Path], show: Callable[[str], None]) -> None:
        """Records the study's headline metrics, its files, and its end: failed if a cell is
        invalid."""
        outbox = Outbox(self.folder / STUDY)
        with _noted(self.folder, show):
            if outbox.is_finished:
                return
            outbox.add(
                Metrics(values=tuple(values_now(summary.metrics(done)))),
                *(self._file(file) for file in files),
                RunEnd(
                    status="FINISHED" if summary.is_valid(done) else "FAILED",
                    ended_ms=milliseconds(time.time()),
                ),
            )

    def failed(self, show: Callable[[str], None]) -> None:
        """Records that the study ended without a result."""
        with _noted(self.folder, show):
            Outbox(self.folder / STUDY).add(
                RunEnd(status="FAILED", ended_ms=milliseconds(time.time()))
            )

    def sent_run(self) -> TrackedRun | None:
        """Returns where the run is in MLflow, and records it next to the summary; None if it is
        not sent yet."""
        address = Address.of(self.study.place)
        ids = Sender(self.folder, Server(address)).study_run()
        if ids is None:
            return None
        tracked = TrackedRun.of(address.uri, *ids, view_key(self.fingerprint))
        tracked.keep_in(self.study.folder)
        return tracked

    def _file(self, file: Path) -> File:
        folder = "figures" if file.suffix == ".png" else None
        return File(path=os.path.relpath(file.resolve(), self.folder), folder=folder)

    def _start(self) -> RunStart:
        study = self.study
        tags = {
            "mlflow.user": user(),
            "mlflow.source.name": "forkdiv",
            "mlflow.source.type": "LOCAL",
            "mlflow.note.content": self._description(),
        }
        if version := commit():
            tags["mlflow.source.git.commit"] = version.removesuffix("-dirty")
            tags["forkdiv.commit"] = version
        return RunStart(
            key=self.fingerprint,
            experiment=experiment_name(study.place, study.name),
            name=study.name,
            started_ms=milliseconds(time.time()),
            params=_flat(study),
            tags=tags,
        )

    def _description(self) -> str:
        page = f"#/experiments/{EXPERIMENT}/runs"
        view = f"viewStateShareKey={view_key(self.fingerprint)}&compareRunsMode=CHART"
        report = f"{page}/{RUN}/artifacts/report.html?{MODEL_TRAINING}"
        return (
            f"The study {self.study.name}: its trials are child runs. "
            f"[Compare them]({page}?{view}&{MODEL_TRAINING}) · [Report]({report})"
        )

    def _view(self) -> dict[str, str]:
        """Returns the tags of the view of the trials, with the params that the study varies."""
        trials = [params(self.study, point) for point in islice(points(self.study), MAX_TRIALS)]
        values: dict[str, set[float | int | str]] = {}
        for trial in trials:
            for name, value in trial.items():
                values.setdefault(name, set()).add(value)
        varied = {name: found - {BASE} for name, found in values.items() if len(found - {BASE}) > 1}
        numeric = [
            name
            for name, found in varied.items()
            if all(isinstance(value, int | float) for value in found)
        ]
        return view_tags(self.fingerprint, list(varied), numeric, self.study.eval.ks)


@contextmanager
def _noted(folder: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Shows in one line that the file system does not take a record, and goes on."""
    try:
        yield
    except OSError as error:
        show(
            f"the study is not recorded for MLflow ({error}); its results do not depend on it; "
            f"make {folder} writable"
        )


def _flat(study: StudyConfig) -> dict[str, str]:
    """Returns the study's settings as MLflow params with dotted names."""
    flat: dict[str, str] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else key, value)
        else:
            flat[prefix] = json.dumps(node) if isinstance(node, list) else str(node)

    for source in study.sources:
        flat[f"source.{source.setting}"] = f"{source.name} at {source.commit}"
    walk("", canonical(study.model_dump(mode="json", exclude=set(NOT_IDENTITY - {"name"}))))
    return flat
