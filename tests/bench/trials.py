"""What a trial costs beyond its stages: 1,000 trials with empty stages, against Ray Tune alone."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Progress
from forkdiv.core.results import Cell, Interval
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import open_checkpoint
from tests.bench.row import Row
from tests.stack import BASE
from tuning import session, sweep
from tuning.open_study import OpenStudy
from tuning.resources import TRIAL_CPUS, Work
from tuning.space import Point
from tuning.study_record import StudyRecord
from tuning.trial import Pipeline, TrialResult

SIZES = (250, 1000)
MANY = 10_000
KS = (1, 2, 4, 8, 16, 32, 64)
SUBSETS = ("all", "signed", "unsigned")


class EmptyPipeline(Pipeline):
    """A pipeline whose stages take no time; its cells have the curves of a real trial."""

    def run(self, point: Point) -> TrialResult:
        half = Interval(value=0.5, low=0.4, high=0.6)
        rows = [
            Cell(
                **point.cell_name(4.0 if point.tuned else None).as_json(),
                subset=subset,
                n_problems=100,
                n_samples=64,
                truncated=0,
                unparsable=0,
                errors=0,
                valid=True,
                lost={},
                pass_at=dict.fromkeys(KS, half),
                delta_to_base=dict.fromkeys(KS, half) if point.tuned else {},
            )
            for subset in SUBSETS
        ]
        return TrialResult(
            point, hashlib.sha256(point.name.encode()).hexdigest()[:32], rows, "none", seconds={}
        )


def empty(config: dict[str, Any]) -> None:
    """Ray Tune's own empty trial."""
    tune.report({"valid": 1.0})


@dataclass(frozen=True)
class Measured:
    """Seconds per trial of one sweep: of Ray Tune alone, of ours, and of the tracker within it."""

    trials: int
    alone: float
    ours: float
    tracking: float

    @property
    def times(self) -> float:
        return (self.ours - self.tracking) / self.alone


def measure() -> list[Row]:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # as a study has it: no box per sweep
    with tempfile.TemporaryDirectory() as folder, _ray(Path(folder)) as study:
        _measured(study, 20)  # imports, the first actor, the tables of MLflow
        found = [_measured(study, size) for size in SIZES]
    few, many = found
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    slope = (many.ours * many.trials - few.ours * few.trials) / (many.trials - few.trials)
    hours = (few.ours * few.trials + slope * (MANY - few.trials)) / 3600
    sizes = f"{few.trials} and {many.trials} trials"
    each = f"{1e3 * many.ours:.0f} ms a trial, {1e3 * many.tracking:.0f} ms of it MLflow's"
    alone = f"Ray Tune alone {1e3 * many.alone:.1f} ms; {many.trials} trials, actors reused"
    flat = f"{1e3 * few.ours:.0f} and {1e3 * many.ours:.0f} ms a trial at {sizes}"
    return [
        Row("empty_trial_vs_tune", many.times, "times", f"{each}, {alone}"),
        Row("empty_trial_growth", many.ours / few.ours, "times", flat),
        Row("empty_trials_10000_hours", hours, "hours", f"extrapolated from {sizes}"),
        Row("sweep_driver_gib", gib, "GiB", f"peak of the driver after sweeps of {sizes}"),
    ]


@contextmanager
def _ray(root: Path) -> Iterator[StudyConfig]:
    settings = [f"base={BASE}", f"place.root={root}", "place.dashboard=false"]
    study = load(None, settings)
    with session.running(study.place, Work(trains=False, samples=False)) as place:
        yield study.model_copy(update={"place": place})


def _measured(study: StudyConfig, trials: int) -> Measured:
    alone = _alone(study, trials)
    seeds = tuple(range(trials - 1))  # and the base
    grid = study.model_copy(
        update={
            "name": f"empty-{trials}",
            "sweep": study.sweep.model_copy(update={"seed": seeds}),
        }
    )
    progress = Progress(grid.folder / "progress.jsonl", "study")
    work = OpenStudy(grid, open_checkpoint(BASE), progress, Store.of(grid.place), "no-sampler", {})
    fingerprint = f"{trials:032x}"
    record = StudyRecord(grid, fingerprint)
    with record.running(progress):
        began = time.perf_counter()
        results = sweep.run(work, record.folder, fingerprint, EmptyPipeline)
        seconds = time.perf_counter() - began
    assert len(results) == trials
    tracking = sum(result.seconds["tracking"] for result in results)
    return Measured(trials, alone, seconds / trials, tracking / trials)


def _alone(study: StudyConfig, trials: int) -> float:
    storage = study.place.root / "alone"
    tuner = tune.Tuner(
        tune.with_resources(empty, {"CPU": TRIAL_CPUS}),
        param_space={"seed": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=study.place.max_concurrent_trials, reuse_actors=True
        ),
        run_config=tune.RunConfig(name=str(trials), storage_path=str(storage), verbose=0),
    )
    began = time.perf_counter()
    outcome = tuner.fit()
    seconds = time.perf_counter() - began
    assert outcome.num_errors == 0
    shutil.rmtree(storage)
    return seconds / trials
