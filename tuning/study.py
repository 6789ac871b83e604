"""Runs a study: all trials of its grid, then its summary. Existing results are reused."""

from __future__ import annotations

import time
from collections.abc import Callable

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.results import Summary
from forkdiv.coverage import summary
from forkdiv.models.checkpoint import Checkpoint
from tuning.outcome import obtain_summary
from tuning.space import axes, is_open, points
from tuning.study_record import StudyRecord


def run_study(study: StudyConfig, base: Checkpoint, show: Callable[[str], None]) -> Summary:
    """Returns the study's summary, from the store or newly computed; writes it to the study's
    folder.

    Raises InvalidResult if trials failed.
    """
    identity = summary.identity(study, base)
    return obtain_summary(
        study, identity, lambda: _run(study, base, identity.fingerprint, show), show
    )


def _run(
    study: StudyConfig, base: Checkpoint, fingerprint: str, show: Callable[[str], None]
) -> Summary:
    # imported after the checks and the look-up in the store, because Ray's imports take seconds
    from tuning import sweep, where_to_look
    from tuning.best_decoder import best_decoders
    from tuning.live import STUDY, LiveSweep
    from tuning.open_study import open_study
    from tuning.schedulers import stopped_note
    from tuning.search import early_end
    from tuning.trial_results import TrialResults

    started = time.perf_counter()
    grid, results = points(study), TrialResults.of(study, fingerprint)
    kept = [point.name for point in grid if results.has_valid(point)]
    for line in where_to_look.lines(study, fingerprint):
        show(line)
    live = LiveSweep(grid, study.place.max_concurrent_trials, kept=kept, is_open=is_open(study))
    with live, open_study(study, base, STUDY, show, watch=live.event) as work:
        work.progress("starting the sampler in the background")
        seconds = dict(work.seconds)
        record = StudyRecord(work.study, fingerprint)
        with record.running(work.progress):
            begun = time.perf_counter()
            trials = sweep.run(work, record.folder, fingerprint)
            seconds["sweep"] = time.perf_counter() - begun
    finished = [trial for trial in trials if not trial.is_stopped]
    stopped = [trial for trial in trials if trial.is_stopped]
    for trial in trials:
        for stage, stage_seconds in trial.seconds.items():
            seconds[f"sweep.{stage}"] = seconds.get(f"sweep.{stage}", 0.0) + stage_seconds
    seconds["total"] = time.perf_counter() - started
    done = summary.assemble(
        work.study,
        fingerprint,
        axes(study),
        [trial.cells for trial in finished],
        seconds,
        dynamics=[
            *(cell for trial in trials for cell in trial.dynamics),
            *(cell for trial in stopped for cell in trial.cells),
        ],
        best_decoders=best_decoders(finished, study.eval),
    )
    notes = [stopped_note(study, stopped, len(trials))] if stopped else []
    return done.with_notes([*notes, *early_end(study, results)])
