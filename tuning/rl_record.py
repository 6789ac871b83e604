"""The MLflow run of reinforcement learning: its metrics appear while it goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store
from forkdiv.rl.job import LOG
from forkdiv.rl.meter import read_log
from forkdiv.rl.rl_run import Inputs
from forkdiv.tracking.address import Address, experiment_name
from forkdiv.tracking.events import Metrics, RunEnd, RunStart, Value, milliseconds, values_now
from forkdiv.tracking.outbox import Outbox, study_folder
from forkdiv.tracking.sender import STUDY
from forkdiv.tracking.sending import Sending
from tuning.run_params import user

EVERY_S = 2.0
LAST = 20  # iterations, over which the metrics of the whole run are averaged
HEADLINE = ("reward", "kl", "entropy", "length", "divergence", "no_signal", "tokens_per_s")


@contextmanager
def recording(
    study: StudyConfig, inputs: Inputs, store: Store, show: Callable[[str], None]
) -> Iterator[None]:
    """Records the rows of the run's log for MLflow during the block, and its end; they are sent
    meanwhile. MLflow's failure costs a line, and the run goes on."""
    identity = inputs.identity
    folder = study_folder(study.folder, identity.fingerprint).resolve()
    record = _Record(study, identity, store, Outbox(folder / STUDY))
    if record.outbox.is_finished:
        yield
        return
    record.start()
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(EVERY_S):
            record.add()

    thread = threading.Thread(target=follow, daemon=True, name="rl-record")
    with Sending(folder, Address.of(study.place), study.name, show):
        thread.start()
        valid = False
        try:
            yield
            valid = True
        finally:
            ended.set()
            thread.join()
            record.finish(valid)


@dataclass
class _Record:
    study: StudyConfig
    identity: Identity
    store: Store
    outbox: Outbox
    last: int = 0  # the last iteration that is recorded
    rows: Sequence[Mapping[str, float]] = field(default_factory=list)

    def start(self) -> None:
        study = self.study
        self.outbox.add(
            RunStart(
                key=self.identity.fingerprint,
                experiment=experiment_name(study.place, study.name),
                name=study.name,
                started_ms=milliseconds(time.time()),
                params=params(study),
                tags={"mlflow.user": user(), "mlflow.source.name": "forkdiv"},
            )
        )

    def add(self) -> None:
        """Records the iterations that are new. An iteration that is recorded again, after a kill,
        has the time of its first row, and stays one in MLflow."""
        self.rows = self._read()
        new = [row for row in self.rows if row["iteration"] > self.last]
        if new:
            self.outbox.add(Metrics(values=tuple(value for row in new for value in values(row))))
            self.last = int(new[-1]["iteration"])

    def finish(self, valid: bool) -> None:
        """Records the last rows and the end; a failed run goes on when it is repeated."""
        self.add()
        last = self.rows[-LAST:]
        means = {f"last_{name}": mean(row[name] for row in last) for name in HEADLINE if last}
        self.outbox.add(
            Metrics(values=tuple(values_now(means))),
            RunEnd(status="FINISHED" if valid else "FAILED", ended_ms=milliseconds(time.time())),
        )

    def _read(self) -> list[dict[str, float]]:
        """Returns the rows of the published run, or of its workspace."""
        published = self.store.path(self.identity)
        folder = published if published.exists() else self.store.workspace(self.identity)
        return read_log(folder) if (folder / LOG).exists() else []


def params(study: StudyConfig) -> dict[str, str]:
    """Returns the settings of the run by their dotted names."""
    start = study.checkpoint or study.base
    settings = {f"rl.{key}": str(value) for key, value in study.rl.model_dump().items()}
    return {"start": str(start), "task": study.task.kind, **settings}


def values(row: Mapping[str, float]) -> Iterator[Value]:
    """Yields the metrics of a row of the log, with its time and its iteration as step."""
    for name, value in row.items():
        if name not in ("iteration", "time"):
            yield Value(name, float(value), milliseconds(row["time"]), int(row["iteration"]))
