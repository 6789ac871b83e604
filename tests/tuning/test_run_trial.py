"""A trial reports each measured checkpoint, can be stopped while it works, and passes on errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.sample.sample_sets import FailedRequest, Request, Response
from forkdiv.train.stopping import Stopping, TrialStopped
from tests.stack import BASE, read_progress
from tests.tuning import made_up
from tuning.listed import PointOf, config_of
from tuning.run_trial import StoppableSampler, StudyTrial, SweepJob
from tuning.space import Point, points
from tuning.trial import Pipeline, TrialResult
from tuning.trial_results import TrialResults


class Measures(Pipeline):
    """Measures a checkpoint after epochs 1 and 2, and goes on until it is stopped."""

    def run(self, point: Point) -> TrialResult:
        for epoch in (1.0, 2.0, 2.0):  # the last one again, as after training
            self.on_measured(epoch, measured(point, epoch))
        while True:
            self.stopping.check()
            time.sleep(0.01)


class Finishes(Pipeline):
    def run(self, point: Point) -> TrialResult:
        return measured(point, 4.0)


class Fails(Pipeline):
    def run(self, point: Point) -> TrialResult:
        raise ValueError("the cause")


def measured(point: Point, epoch: float) -> TrialResult:
    return made_up.result(point, epoch / 8, epoch)


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    return load(None, [f"base={BASE}", f"place.root={tmp_path}", "sweep.fork_density=[0.5,1.0]"])


def start(study: StudyConfig, pipeline: type[Pipeline]) -> StudyTrial:
    base, listed = open_checkpoint(BASE), {point.name: point for point in points(study)}
    job = SweepJob(
        study=study,
        base=base.path,
        base_fingerprint=base.fingerprint,
        sampler="no-sampler",
        record=study.folder / "tracking" / "f",
        results=study.folder / "trials",
        progress=study.folder / "progress.jsonl",
    ).model_dump_json()
    trial = object.__new__(StudyTrial)  # without Ray Tune's own start
    trial.setup(config_of(tuned(study)), job, PointOf(study, listed), pipeline)
    return trial


def tuned(study: StudyConfig) -> Point:
    return next(point for point in points(study) if point.tuned)


def test_each_measured_checkpoint_is_reported_once_and_kept_when_the_trial_is_stopped(
    study: StudyConfig,
) -> None:
    trial, point = start(study, Measures), tuned(study)
    first, second = trial.step(), trial.step()
    assert (first["epoch"], first["pass_at_8"], first.get("done")) == (1.0, 0.125, None)
    assert (second["epoch"], second["pass_at_8"]) == (2.0, 0.25)
    trial.cleanup()
    assert not [thread for thread in threading.enumerate() if thread.name == "trial"]
    results = TrialResults(study.folder / "trials")
    assert results.find(point) is None, "only Ray Tune's driver knows that it was stopped"
    stopped = results.stop(point)
    assert stopped is not None and stopped.is_stopped
    assert [cell.epoch for cell in stopped.cells] == [2]
    assert [cell.epoch for cell in stopped.dynamics] == [1]
    last = read_progress(study.folder / "progress.jsonl")[-1]
    assert last["finished"] and "stopped by the scheduler" in last["message"]


def test_an_actor_runs_the_next_trial_after_it_has_stopped_the_last(study: StudyConfig) -> None:
    trial = start(study, Measures)
    other = points(study)[-1]
    assert trial.reset_config(config_of(other))
    assert trial.step()["epoch"] == 1.0
    trial.cleanup()
    assert TrialResults(study.folder / "trials").stop(other) is not None


def test_a_finished_trial_is_done_and_has_its_result_file(study: StudyConfig) -> None:
    trial = start(study, Finishes)
    report = trial.step()
    assert report["done"] and report["epoch"] == 4.0
    assert TrialResults(study.folder / "trials").has_valid(tuned(study))
    trial.cleanup()


def test_an_error_reaches_ray_tune_as_it_was_raised(study: StudyConfig) -> None:
    trial = start(study, Fails)
    with pytest.raises(ValueError, match="the cause"):
        trial.step()
    trial.cleanup()


class Endless:
    """A sampler that never ends."""

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]:
        for request in requests:
            while True:
                yield Response(request, [])

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        return nullcontext("there is none")

    def tokens_drawn(self) -> int | None:
        return None


def test_sampling_ends_with_the_next_response_after_a_stop() -> None:
    stopping = Stopping()
    request: Any = "a request"
    checkpoint = Checkpoint(Path("checkpoint"), "c" * 32)
    samples = StoppableSampler(Endless(), stopping).sample(checkpoint, DecoderConfig(), [request])
    assert next(samples)
    stopping.request()
    with pytest.raises(TrialStopped):
        next(samples)
