"""A whole study: every point of the grid, then its summary; nothing that is done is done again."""

from __future__ import annotations

import time
from collections.abc import Callable

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.results import Summary
from forkdiv.coverage import summary
from forkdiv.models.checkpoint import Checkpoint
from tuning.outcome import obtain_summary, parent_run
from tuning.space import axes, points


def run_study(study: StudyConfig, base: Checkpoint, show: Callable[[str], None]) -> Summary:
    """The study's summary, found where it is done, else made; also written to its folder.

    Raises InvalidResult where trials failed.
    """
    identity = summary.identity(study, base)
    return obtain_summary(
        study, identity, lambda: _run(study, base, identity.fingerprint, show), show
    )


def _run(
    study: StudyConfig, base: Checkpoint, fingerprint: str, show: Callable[[str], None]
) -> Summary:
    # after the checks and the look into the store: Ray's imports take seconds
    from tuning import sweep
    from tuning.best_decoder import best_decoders
    from tuning.live import LiveSweep
    from tuning.open_study import open_study

    started = time.perf_counter()
    watched = LiveSweep(points(study), study.place.max_concurrent_trials)
    with watched, open_study(study, base, "study", show, watch=watched.event) as work:
        work.progress("starting the sampler in the background and creating the MLflow run")
        seconds = dict(work.seconds)
        begun = time.perf_counter()
        parent = parent_run(work.study, fingerprint)
        seconds["mlflow"] = time.perf_counter() - begun
        begun = time.perf_counter()
        trials = sweep.run(work, parent, fingerprint)
        seconds["sweep"] = time.perf_counter() - begun
    for trial in trials:
        for stage, passed in trial.seconds.items():
            seconds[f"sweep.{stage}"] = seconds.get(f"sweep.{stage}", 0.0) + passed
    seconds["total"] = time.perf_counter() - started
    return summary.assemble(
        work.study,
        fingerprint,
        axes(study),
        [trial.cells for trial in trials],
        seconds,
        dynamics=[cell for trial in trials for cell in trial.dynamics],
        best_decoders=best_decoders(trials, study.eval),
    )
