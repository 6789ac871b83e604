"""Runs a sweep's trials in an actor of Ray Tune, one after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ray import tune

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Progress
from forkdiv.core.results import Cell
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.deployment import ServeSampler
from forkdiv.sample.sample_sets import FailedRequest, Request, Response, SamplerClient
from forkdiv.train.stopping import Stopping, TrialStopped
from tuning import stored_paths
from tuning.listed import PointOf
from tuning.record import TrialRecord
from tuning.space import Point, at
from tuning.tracked_metrics import headline_metrics
from tuning.trial import Pipeline, TrialResult
from tuning.trial_results import TrialResults

STOP_S = 120.0  # until a trial that does not stop counts as lost


class SweepJob(Frozen):
    """The arguments of the trials of a sweep. Paths are absolute, because Ray changes the trials'
    directory.

    `sampler` is the name of the Serve application, `record` the folder of the events for MLflow,
    `results` the folder for the trials' result files, and `progress` the progress file.
    """

    study: StudyConfig
    base: Path
    base_fingerprint: str
    sampler: str
    record: Path
    results: Path
    progress: Path


class StudyTrial(tune.Trainable):  # type: ignore[misc]
    """The actor. Ray Tune calls `step` until the trial is done; `cleanup` or `reset_config` ends a
    trial that a scheduler has stopped. An actor runs several trials, because its imports cost as
    much as the sampling of a trial."""

    def setup(
        self, config: dict[str, Any], job: str, point_of: PointOf, pipeline: type[Pipeline]
    ) -> None:
        """`job` is a SweepJob as JSON."""
        self._sweep = SweepJob.model_validate_json(job)
        self._point_of, self._pipeline = point_of, pipeline
        self._trial = _Trial(self._sweep, point_of(config), pipeline)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._trial.stop()
        self._trial = _Trial(self._sweep, self._point_of(new_config), self._pipeline)
        return True

    def step(self) -> dict[str, Any]:
        return self._trial.next_report()

    def cleanup(self) -> None:
        self._trial.stop()


class _Trial:
    """A trial in a thread of its own, so that it can be stopped while it trains."""

    def __init__(self, sweep: SweepJob, point: Point, pipeline: type[Pipeline]) -> None:
        self._sweep, self._point = sweep, point
        self._stopping = Stopping()
        self._results = TrialResults(sweep.results)
        progress = Progress(sweep.progress, self._point.name)
        name = self._point.name
        of_point = at(sweep.study, self._point)
        self._record = TrialRecord(sweep.record, of_point, sweep.study, self._point, name, progress)
        self._progress = progress.measuring(self._record.measured)
        self._reports: SimpleQueue[dict[str, Any] | Exception] = SimpleQueue()
        self._measured: dict[float, list[Cell]] = {}  # by epoch
        study = sweep.study
        self._pipeline = pipeline(
            study,
            Checkpoint(sweep.base, sweep.base_fingerprint),
            Store.of(study.place),
            StoppableSampler(ServeSampler(sweep.sampler, study.place.engine), self._stopping),
            self._progress,
            stopping=self._stopping,
            on_measured=self._note_checkpoint,
            following=self._record.following,
        )
        self._thread = threading.Thread(target=self._work, daemon=True, name="trial")
        self._thread.start()

    def next_report(self) -> dict[str, Any]:
        """Waits for the metrics of the next measured checkpoint or of the end. Raises what the
        trial raised."""
        report = self._reports.get()
        if isinstance(report, Exception):
            raise report
        return report

    def stop(self) -> None:
        """Stops the trial if it still runs, and waits for its end: of its training workers too,
        whose placement group Ray would otherwise keep until the end of the sweep."""
        if not self._thread.is_alive():
            return
        self._stopping.request()
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            raise RuntimeError(f"the trial {self._point.name} did not stop within {STOP_S:g} s")

    def _work(self) -> None:
        try:
            with self._record:
                report = self._run()
            self._reports.put(report)
        except TrialStopped:
            message = "stopped by the scheduler; what is trained and measured is kept"
            self._progress(message, finished=True)
        except Exception as error:  # noqa: BLE001 - raised again by next_report
            self._reports.put(error)

    def _run(self) -> dict[str, Any]:
        stored_paths.download(self._sweep.study, weights=False)  # this host may not have them
        with self._pipeline.store.released():
            result = self._pipeline.run(self._point)
        began = time.perf_counter()
        self._record.finished(result)
        metrics = headline_metrics(result.cells)
        result.seconds["tracking"] = time.perf_counter() - began
        self._results.write(result)
        self._progress(_sentence(metrics), finished=True)
        return _shown_by_tune(metrics) | _epoch(result.cells) | {"done": True}

    def _note_checkpoint(self, epoch: float, measured: TrialResult) -> None:
        """Reports a checkpoint, once, from the thread that measures while training continues or
        from that of the trial."""
        self._stopping.check()
        if epoch in self._measured or not all(cell.valid for cell in measured.cells):
            return
        earlier = [cell for cells in self._measured.values() for cell in cells]
        self._measured[epoch] = measured.cells
        self._record.checkpoint(epoch, measured.cells)
        self._results.write_measured(replace(measured, dynamics=earlier))
        metrics = headline_metrics(measured.cells)
        self._reports.put(_shown_by_tune(metrics) | _epoch(measured.cells))


@dataclass(frozen=True)
class StoppableSampler:
    """A sampler client whose samples end with TrialStopped once `stopping` is requested."""

    client: SamplerClient
    stopping: Stopping

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]:
        for response in self.client.sample(checkpoint, decoder, requests):
            self.stopping.check()
            yield response

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        return self.client.giving_way(name)

    def tokens_drawn(self) -> int | None:
        return self.client.tokens_drawn()


def _epoch(cells: Sequence[Cell]) -> dict[str, float]:
    """Returns the epoch of a trained model, which schedulers compare; empty for the base."""
    epochs = [cell.epoch for cell in cells if cell.epoch is not None]
    return {"epoch": float(epochs[0])} if epochs else {}


def _shown_by_tune(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the few metrics that Ray Tune shows; MLflow has all metrics."""
    ks = sorted(int(key.removeprefix("pass_at_")) for key in metrics if key.startswith("pass_at_"))
    names = ["valid"] + [
        f"{prefix}{kind}_{k}"
        for k in ks
        for prefix in ("", "unsigned_")
        for kind in ("pass_at", "delta_pass_at")
    ]
    return {name: metrics[name] for name in names if name in metrics}


def _sentence(metrics: Mapping[str, float]) -> str:
    ks = sorted(int(key.removeprefix("pass_at_")) for key in metrics if key.startswith("pass_at_"))
    if not ks:
        return "finished, but invalid: samples or verdicts are missing"
    shown = ", ".join(f"pass@{k} {metrics[f'pass_at_{k}']:.3f}" for k in sorted({ks[0], ks[-1]}))
    return f"finished: {shown}"
