"""The MLflow run of reinforcement learning: its metrics appear while it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store
from forkdiv.rl.job import LOG
from forkdiv.rl.meter import read_log
from forkdiv.rl.rl_run import Inputs
from forkdiv.tracking import Tracker, TrackingFailed

EVERY_S = 2.0
LAST = 20  # iterations, over which the metrics of the whole run are averaged
HEADLINE = ("reward", "kl", "entropy", "length", "divergence", "no_signal", "tokens_per_s")


@contextmanager
def recording(
    study: StudyConfig, inputs: Inputs, store: Store, show: Callable[[str], None]
) -> Iterator[None]:
    """Sends the rows of the run's log to MLflow during the block, and its end. If MLflow does not
    take them, `show` gets a line, and the run goes on."""
    identity = inputs.identity
    sender = _Sender(study, identity, store, show)
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(EVERY_S):
            sender.send()

    thread = threading.Thread(target=follow, daemon=True, name="rl-mlflow")
    thread.start()
    valid = False
    try:
        yield
        valid = True
    finally:
        ended.set()
        thread.join()
        sender.finish(valid)


class _Sender:
    def __init__(
        self, study: StudyConfig, identity: Identity, store: Store, show: Callable[[str], None]
    ) -> None:
        self._tracker, self._show = Tracker.of(study.place), show
        self._name, self._identity, self._store = study.name, identity, store
        self._params = params(study)
        self._run: str | None = None
        self._sent = 0  # the last iteration that was sent
        self._failed = False

    def send(self) -> None:
        """Sends the rows that are new; after a failure, nothing more."""
        rows = [row for row in self._rows() if row["iteration"] > self._sent]
        if rows and not self._failed:
            self._try(lambda run: self._tracker.rows(run, [as_step(row) for row in rows]))
            self._sent = int(rows[-1]["iteration"])

    def finish(self, valid: bool) -> None:
        """Sends the last rows and ends the run; an invalid one is continued when it is repeated."""
        self.send()
        rows = self._rows()[-LAST:]
        means = {
            f"last_{name}": sum(row[name] for row in rows) / len(rows) for name in HEADLINE if rows
        }
        if not self._failed:
            self._try(lambda run: self._tracker.finish(run, means, [], valid))

    def _rows(self) -> list[dict[str, float]]:
        """The rows of the published run, or of its workspace."""
        published = self._store.path(self._identity)
        folder = published if published.exists() else self._store.workspace(self._identity)
        return read_log(folder) if (folder / LOG).exists() else []

    def _try(self, write: Callable[[str], None]) -> None:
        try:
            if self._run is None:
                fingerprint = self._identity.fingerprint
                self._run = self._tracker.study(fingerprint, self._name, self._params)
            write(self._run)
        except TrackingFailed as error:
            self._failed = True
            self._show(f"the run in MLflow is incomplete, its results are complete: {error}")


def params(study: StudyConfig) -> dict[str, float | str]:
    """Returns the settings of the run, as numbers if possible."""
    start = study.checkpoint or study.base
    values = {f"rl.{key}": value for key, value in study.rl.model_dump().items()}
    simple = {k: v if isinstance(v, int | float) else str(v) for k, v in values.items()}
    return {"start": str(start), "task": study.task.kind, **simple}


def as_step(row: Mapping[str, float]) -> dict[str, float]:
    """Returns a row of the log with its iteration as MLflow's step."""
    return {"step": row["iteration"]} | {k: v for k, v in row.items() if k != "iteration"}
