"""Runs the points of a study as Ray Tune trials."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store, write_text
from forkdiv.core.store_record import reading
from forkdiv.models.checkpoint import Checkpoint
from tuning import stored_paths
from tuning.open_study import OpenStudy
from tuning.record import record
from tuning.resources import TRIAL_CPUS
from tuning.space import Point, at, points
from tuning.trial import Pipeline, TrialResult


def run(work: OpenStudy, parent: str, fingerprint: str) -> list[TrialResult]:
    """Runs a trial for every point of the study's grid; returns the results in the grid's order.

    Raises InvalidResult if trials failed, after the others have finished. The results of finished
    trials are kept, and the next run continues from them.
    """
    study, base = work.study, work.base
    grid = points(study)
    # by fingerprint, so that results of another study with the same name are not read
    results = study.folder / "trials" / fingerprint
    results.mkdir(parents=True, exist_ok=True)
    assert work.app is not None  # a sweep is opened with a sampler
    job = SweepJob(
        study=study,
        base=base.path,
        base_fingerprint=base.fingerprint,
        sampler=work.app,
        parent=parent,
        results=results.resolve(),
        progress=work.progress.path.resolve(),
    ).model_dump_json()
    # Ray Tune's new output prints a box and three lines even with verbose=0
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, job=job), {"CPU": TRIAL_CPUS}),
        param_space={"point": tune.grid_search([asdict(point) for point in grid])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=study.place.max_concurrent_trials,
            reuse_actors=True,  # a trial's imports cost as much as its sampling
            trial_name_creator=lambda t: _file_name(Point(**t.config["point"])),
            trial_dirname_creator=lambda t: (
                f"{_file_name(Point(**t.config['point']))}-{t.trial_id}"
            ),
        ),
        run_config=tune.RunConfig(
            name=f"{study.name}-{fingerprint[:8]}",
            storage_path=str((study.place.root / "tune").resolve()),
            failure_config=tune.FailureConfig(max_failures=study.place.max_failures),
            verbose=0,  # tuning.live shows the trials
        ),
    )
    outcome = tuner.fit()
    if outcome.errors:
        failed = "; ".join(_last_line(error) for error in outcome.errors)
        raise InvalidResult(
            f"{outcome.num_errors} of {len(grid)} trials failed: {failed}; the results of the "
            "other trials are kept: correct the cause and run the same command again"
        )
    files = [results / f"{_file_name(point)}.json" for point in grid]
    missing = [file for file in files if not file.is_file()]
    if missing:  # Tune raises nothing when it is interrupted
        raise InvalidResult(
            f"the sweep was stopped before {len(missing)} of {len(grid)} trials had finished; the "
            "finished results are kept: run the same command again to continue"
        )
    return [_read(file) for file in files]


def _read(file: Path) -> TrialResult:
    with reading(file, file):
        return TrialResult.of_json(json.loads(file.read_text()))


class SweepJob(Frozen):
    """The arguments of the trials of a sweep. Paths are absolute, because Ray changes the trials'
    directory.

    `sampler` is the name of the Serve application, `parent` the id of the study's MLflow run,
    `results` the folder for the trials' result files, and `progress` the progress file.
    """

    study: StudyConfig
    base: Path
    base_fingerprint: str
    sampler: str
    parent: str
    results: Path
    progress: Path


def trial(config: dict[str, Any], job: str) -> None:
    """The function that Ray Tune runs: runs the pipeline for the point in `config` and writes the
    result to MLflow and to a file. `job` is a SweepJob as JSON."""
    from forkdiv.sample.deployment import ServeSampler

    sweep = SweepJob.model_validate_json(job)
    study, point = sweep.study, Point(**config["point"])
    progress = Progress(sweep.progress, point.name)
    started = time.time()
    stored_paths.download(study, weights=False)  # this host may not have them
    store = Store.of(study.place)
    client = ServeSampler(sweep.sampler, study.place.engine)
    base = Checkpoint(sweep.base, sweep.base_fingerprint)
    with store.released():
        result = Pipeline(study, base, store, client, progress).run(point)
    metrics = record(at(study, point), result, sweep.parent, point.name, started, progress)
    path = sweep.results / f"{_file_name(point)}.json"
    write_text(path, json.dumps(result.as_json()))
    progress(_sentence(metrics), finished=True)
    tune.report(_shown_by_tune(metrics))


def _shown_by_tune(metrics: dict[str, float]) -> dict[str, float]:
    """Returns the few metrics that Ray Tune shows; MLflow has all metrics."""
    ks = sorted(int(key.removeprefix("pass_at_")) for key in metrics if key.startswith("pass_at_"))
    names = ["valid"] + [
        f"{prefix}{kind}_{k}"
        for k in sorted({*ks[:1], *ks[-1:]})
        for prefix in ("", "unsigned_")
        for kind in ("pass_at", "delta_pass_at")
    ]
    return {name: metrics[name] for name in names if name in metrics}


def _sentence(metrics: dict[str, float]) -> str:
    ks = sorted(int(key.removeprefix("pass_at_")) for key in metrics if key.startswith("pass_at_"))
    if not ks:
        return "finished, but invalid: samples or verdicts are missing"
    shown = ", ".join(f"pass@{k} {metrics[f'pass_at_{k}']:.3f}" for k in sorted({ks[0], ks[-1]}))
    return f"finished: {shown}"


def _file_name(point: Point) -> str:
    return point.name.replace(" ", "_").replace("=", "")


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
