"""Runs the points of a study as Ray Tune trials."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ray import tune
from ray.tune.search import Searcher

from forkdiv.core.errors import InvalidResult
from tuning.check_scheduler import check_scheduler
from tuning.follow_trials import FollowsTrials
from tuning.listed import Listed, PointOf
from tuning.open_study import OpenStudy
from tuning.resources import TRIAL_CPUS
from tuning.run_trial import StudyTrial, SweepJob
from tuning.schedulers import scheduler
from tuning.search import Search, early_end
from tuning.space import Point, is_open, points
from tuning.trial import Pipeline, TrialResult
from tuning.trial_errors import explained
from tuning.trial_results import TrialResults
from tuning.where_to_look import tune_folder


def run(
    work: OpenStudy, record: Path, fingerprint: str, pipeline: type[Pipeline] = Pipeline
) -> list[TrialResult]:
    """Runs a trial for every point of the study's grid; returns the results in the grid's order.

    `record` is the folder of the events for MLflow.

    Raises InvalidResult if trials failed, after the others have finished. The results of finished
    trials are kept, and the next run continues from them.
    """
    results = TrialResults.of(work.study, fingerprint)
    if is_open(work.study):
        return _run_open(work, record, fingerprint, results, pipeline)
    grid = points(work.study)
    left = [point for point in grid if not results.has_valid(point)]
    if len(left) < len(grid):
        work.progress(f"{len(grid) - len(left)} of {len(grid)} trials had finished and are kept")
    if left:
        check_scheduler(work.study, left)  # whether the engine takes turns is known only now
        tuner = _tuner(work, record, fingerprint, left, results, pipeline, Listed(left), len(left))
        _check(tuner.fit(), len(grid))
    return _finished(grid, results)


def _run_open(
    work: OpenStudy,
    record: Path,
    fingerprint: str,
    results: TrialResults,
    pipeline: type[Pipeline],
) -> list[TrialResult]:
    """Runs the trials of a search that chooses them while it runs."""
    search = Search(work.study, results)
    if search.kept:
        work.progress(f"{search.kept} trials of this search had finished and are kept")
    if not search.is_finished:
        check_scheduler(work.study, points(work.study))
        # -1: as many trials as the search gives
        tuner = _tuner(work, record, fingerprint, [], results, pipeline, search, -1)
        _check(tuner.fit(), len(search.points))
    for note in early_end(work.study, results):
        work.progress(note)
    return _finished(search.points, results)


def _check(outcome: tune.ResultGrid, trials: int) -> None:
    """Raises InvalidResult if trials failed."""
    if outcome.num_errors:
        raise InvalidResult(
            f"{outcome.num_errors} of {trials} trials failed; {explained(outcome)}; the results of "
            "the other trials are kept: correct the cause and run the same command again"
        )


def _finished(grid: Sequence[Point], results: TrialResults) -> list[TrialResult]:
    """Returns the results of all points; raises InvalidResult if one has none."""
    done = {point.name: results.find(point) for point in grid}
    missing = [name for name, result in done.items() if result is None]
    if missing:  # Tune raises nothing when it is interrupted
        raise InvalidResult(
            f"the sweep was stopped before {len(missing)} of {len(grid)} trials had finished; the "
            "finished results are kept: run the same command again to continue"
        )
    return [result for result in done.values() if result is not None]


def _tuner(
    work: OpenStudy,
    record: Path,
    fingerprint: str,
    left: Sequence[Point],
    results: TrialResults,
    pipeline: type[Pipeline],
    search: Searcher,
    trials: int,
) -> tune.Tuner:
    study, base = work.study, work.base
    assert work.app is not None  # a sweep is opened with a sampler
    job = SweepJob(
        study=study,
        base=base.path,
        base_fingerprint=base.fingerprint,
        sampler=work.app,
        record=record,
        results=results.folder,
        progress=work.progress.path.resolve(),
    ).model_dump_json()
    folder = tune_folder(study, fingerprint)
    point_of = PointOf(study, {point.name: point for point in left})
    # the result of an invalid trial has no pass@k, on which a scheduler would insist
    os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    # Ray Tune's new output prints a box and three lines even with verbose=0
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # the errors are in the trials' folders; `explained` shows the first one in a line
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(StudyTrial, job=job, point_of=point_of, pipeline=pipeline),
            {"CPU": TRIAL_CPUS},
        ),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler(study, left or points(study)),
            num_samples=trials,
            max_concurrent_trials=study.place.max_concurrent_trials,
            reuse_actors=True,  # a trial's imports cost as much as its sampling
            trial_name_creator=point_of.file_name,
            # no time or number: a trial that continues writes into the folder that it had
            trial_dirname_creator=point_of.file_name,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=tune.FailureConfig(max_failures=study.place.max_failures),
            # a trial continues from the store, not from a checkpoint of Ray Tune
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,  # tuning.live shows the trials
            callbacks=[FollowsTrials(results, point_of, work.progress)],
        ),
    )
