"""The MLflow run of a trial, as events in a file beside the study: the run exists from the trial's
start, and what is measured follows as it happens.

MLflow is not needed for it, and nothing here may cost a result: a file that cannot be written is
noted, and the trial goes on.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from forkdiv.core.code_version import commit
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import shortened
from forkdiv.core.fingerprint import canonical
from forkdiv.core.results import Cell
from forkdiv.core.store import Store
from forkdiv.core.system_metrics import system_metrics
from forkdiv.data import dataset
from forkdiv.tracking.address import experiment_name
from forkdiv.tracking.events import (
    Dataset,
    Event,
    Metrics,
    Model,
    RunEnd,
    RunStart,
    Tags,
    Value,
    milliseconds,
    values_now,
)
from forkdiv.tracking.outbox import SUFFIX, Outbox
from forkdiv.train import log
from forkdiv.train.stopping import TrialStopped
from tuning.run_params import BASE, params, settings_tags, user
from tuning.space import Point
from tuning.tracked_metrics import (
    checkpoint_curves,
    curves,
    effort,
    pass_at_metrics,
    tracked_metrics,
)
from tuning.trial import TrialResult

SYSTEM_EVERY_S, FOLLOW_EVERY_S = 10.0, 2.0
LOSS = "train/loss"
# names of the columns of a training's log
CURVES = {
    "loss": LOSS,
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "response_tokens_per_s": "train/response_tokens_per_s",
    "memory_gib": "train/memory_gib",
}


@dataclass
class TrialRecord:
    """The run of one trial, within its `with` block; an exception in the block makes it a failed
    run. A run that has finished well stays as it is.

    `folder` holds the events of the study; `study` has the settings of the trial's point.
    """

    folder: Path
    study: StudyConfig
    whole: StudyConfig  # with its sweep
    point: Point
    name: str
    note: Callable[[str], None]
    _outbox: Outbox = field(init=False)
    _started: float = field(init=False)
    _is_open: bool = False
    _steps: set[int] = field(default_factory=set)  # of training, that are recorded
    _step_of: dict[float, int] = field(default_factory=dict)  # by epoch
    _checkpoints: set[float] = field(default_factory=set)  # epochs that are recorded
    _measured: Sequence[Cell] = ()  # of the last measured checkpoint
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:16]
        self._outbox = Outbox(self.folder / f"trial-{digest}{SUFFIX}")
        self._started = time.time()

    def __enter__(self) -> TrialRecord:
        try:
            before = self._outbox.events()
            if before and self._outbox.is_finished:
                return self
        except OSError as error:
            self._failed(error)
            return self
        self._is_open = True
        for event in before:
            if isinstance(event, RunStart):
                self._started = min(self._started, event.started_ms / 1000)
            elif isinstance(event, Metrics):
                self._steps |= {value.step for value in event.values if value.name == LOSS}
        self._add(self._start())
        self._thread = threading.Thread(target=self._watch_system, daemon=True, name="system")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if isinstance(error, TrialStopped):  # what it has measured is its result
            self._add(
                Metrics(values=tuple(values_now(tracked_metrics(self._measured)))),
                Tags(tags={"forkdiv.stopped": "by the scheduler, at its last measured checkpoint"}),
                self._end("FINISHED"),
            )
        elif error is not None:
            text = shortened(" ".join(f"{type(error).__name__}: {error}".split()), 1000)
            self._add(Tags(tags={"forkdiv.error": text}), self._end("FAILED"))
        self._is_open = False

    def measured(self, numbers: Mapping[str, float]) -> None:
        """Records numbers of this moment. Their step is the time since the trial's start, in
        seconds."""
        self._add(Metrics(values=tuple(values_now(numbers, int(time.time() - self._started)))))

    @contextmanager
    def following(self, training_log: Path) -> Iterator[None]:
        """Records the steps of a training while the block runs, as they are logged."""
        over = threading.Event()
        thread = threading.Thread(target=self._follow, args=(training_log, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def checkpoint(self, epoch: float, cells: Sequence[Cell]) -> None:
        """Records a checkpoint that was measured while training continues."""
        self._measured = cells
        step = self._step_of.get(epoch)
        if step is None or epoch in self._checkpoints:  # `finished` knows the step
            return
        self._checkpoints.add(epoch)
        now = milliseconds(time.time())
        self._add(Metrics(values=tuple(checkpoint_curves(cells, step, now))))

    def finished(self, result: TrialResult) -> None:
        """Records the trial's result and the end of its run: failed if a cell is invalid."""
        now = milliseconds(time.time())
        is_valid = all(cell.valid for cell in result.cells)
        rows = self._training_log(result)
        numbers = tracked_metrics(result.cells) | effort(result)
        numbers |= {f"seconds/{name}": value for name, value in result.seconds.items()}
        values = [Value(name, float(value), now) for name, value in numbers.items()]
        values += curves(result.cells, now) + self._dynamics(result, rows, now)
        data = [self._training_data(result), self._evaluation_data()]
        self._add(
            Metrics(values=tuple(values)),
            Metrics(values=tuple(self._new_steps(rows))),
            *(event for event in data if event),
            self._model(result, rows, now),
            Tags(tags={"forkdiv.counts": result.fingerprint}),
            self._end("FINISHED" if is_valid else "FAILED"),
        )

    # events

    def _start(self) -> RunStart:
        tags = {
            "mlflow.user": user(),
            "mlflow.source.name": "forkdiv",
            "mlflow.source.type": "LOCAL",
            "forkdiv.model": "tuned" if self.point.tuned else BASE,
            "mlflow.note.content": _description(self.whole, self.point),
        }
        if version := commit():
            tags["mlflow.source.git.commit"] = version.removesuffix("-dirty")
            tags["forkdiv.commit"] = version
        return RunStart(
            key=f"{self.folder.name}/{self.name}",
            parent=self.folder.name,
            experiment=experiment_name(self.study.place, self.study.name),
            name=self.name,
            started_ms=milliseconds(self._started),
            params={key: str(value) for key, value in params(self.whole, self.point).items()},
            tags=tags | settings_tags(self.study),
        )

    def _end(self, status: Any) -> RunEnd:
        return RunEnd(status=status, ended_ms=milliseconds(time.time()))

    def _model(self, result: TrialResult, rows: list[dict[str, Any]], now: int) -> Model:
        epochs = [cell.epoch for cell in result.cells if cell.epoch is not None]
        shown, own = self.point.varied, self.point.tuned_settings
        varied = " ".join(f"{key}={shown[key]}" for key in own) or "tuned"
        name = f"{varied} epoch {epochs[0]:g}" if epochs else varied
        return Model(
            key=result.checkpoint,
            name=name if self.point.tuned else BASE,
            step=_step_of(rows).get(float(epochs[0]), 0) if epochs else 0,
            params={key: str(shown[key]) for key in own},
            tags={"forkdiv.checkpoint": result.checkpoint},
            # the same rows as the run's, which MLflow keeps once
            values=tuple(Value(k, v, now) for k, v in pass_at_metrics(result.cells).items()),
        )

    def _dynamics(self, result: TrialResult, rows: list[dict[str, Any]], now: int) -> list[Value]:
        """Returns the curves over checkpoints that `checkpoint` has not recorded; none if only the
        last was saved."""
        by_epoch: dict[float, list[Cell]] = {}
        for cell in [*result.dynamics, *result.cells]:
            if cell.epoch is not None and result.dynamics:
                by_epoch.setdefault(float(cell.epoch), []).append(cell)
        step_of = _step_of(rows)
        return [
            value
            for epoch, cells in by_epoch.items()
            if epoch not in self._checkpoints
            for value in checkpoint_curves(cells, step_of.get(epoch, round(epoch)), now)
        ]

    def _training_data(self, result: TrialResult) -> Dataset | None:
        """Returns the dataset that the trial's model was trained on, with its counts of forks."""
        if result.train is None:
            return None
        store = Store.of(self.study.place)
        with suppress(OSError, ValueError, KeyError):
            record = json.loads((store.root / "train" / result.train / "record.json").read_text())
            digest = str(record["parents"]["dataset"])
            for stage in ("dataset", "synthesis"):
                folder = store.root / stage / digest
                if folder.is_dir():
                    return Dataset(
                        name=f"{self.study.task.kind} training",
                        digest=digest,
                        source=str(folder),
                        context="training",
                        profile=dataset.read_card(folder),
                    )
        return None

    def _evaluation_data(self) -> Dataset:
        config = self.study.eval
        values = {"task": self.study.task, "split": config.split, "seed": config.seed}
        text = json.dumps(canonical(values), sort_keys=True)
        return Dataset(
            name=f"{self.study.task.kind} {config.split}",
            digest=hashlib.sha256(text.encode()).hexdigest()[:32],
            source=f"task.kind={self.study.task.kind} eval.split={config.split}",
            context="evaluation",
            profile={"problems": config.problems, "samples_per_problem": config.samples},
        )

    # training and system metrics

    def _training_log(self, result: TrialResult) -> list[dict[str, Any]]:
        if result.train is None:
            return []
        with suppress(OSError, KeyError):  # the numbers of the result do not need it
            return log.read_log(Store.of(self.study.place).root / "train" / result.train)
        return []

    def _new_steps(self, rows: list[dict[str, Any]]) -> list[Value]:
        """Returns the values of steps that are not recorded yet: a training that continues repeats
        steps."""
        values = []
        for row in rows:
            if row["step"] in self._steps:
                continue
            self._steps.add(row["step"])
            ms = milliseconds(row["time"])
            values += [
                Value(name, float(row[column]), ms, row["step"])
                for column, name in CURVES.items()
                if row.get(column) is not None
            ]
        return values

    def _follow(self, training_log: Path, over: threading.Event) -> None:
        while True:
            is_last = over.wait(FOLLOW_EVERY_S)
            with suppress(OSError, ValueError, KeyError):  # not there yet, or half a line
                rows = log.read_log(training_log.parent)
                self._step_of = _step_of(rows)
                self._add(Metrics(values=tuple(self._new_steps(rows))))
            if is_last:
                return

    def _watch_system(self) -> None:
        system_metrics()  # the first call starts the interval of CPU use
        while not self._over.wait(SYSTEM_EVERY_S):
            self.measured({f"system/{name}": value for name, value in system_metrics().items()})

    def _add(self, *events: Event) -> None:
        if not self._is_open:
            return
        try:
            kept = [event for event in events if not isinstance(event, Metrics) or event.values]
            if kept:
                self._outbox.add(*kept)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self._is_open = False
        self.note(
            f"the trial is not recorded for MLflow ({error}); its results do not depend on it; "
            f"make {self.folder} writable"
        )


def _description(study: StudyConfig, point: Point) -> str:
    settings = " ".join(f"{key}={value}" for key, value in point.varied.items())
    tuned = f"A model fine-tuned with {settings}" if settings else "The fine-tuned model"
    return (
        f"{tuned if point.tuned else 'The base model'}, sampled at temperature "
        f"{point.temperature:g}, in the study {study.name}. The curve pass_at_k has k as its step."
    )


def _step_of(rows: list[dict[str, Any]]) -> dict[float, int]:
    """Returns the training step at the end of each epoch."""
    return {float(row["epoch"]): int(row["step"]) for row in rows if "epoch" in row}
