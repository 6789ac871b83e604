"""Run every trial of the grid and write the summary; no report.

forkdiv sweep --config quickstart sweep.temperature=[0.5,1.0]
forkdiv sweep --config quickstart sweep.seed=[0,1,2] name=seeds
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.coverage import summary
from forkdiv.terminal import say
from jobs.report import show_summary
from tuning import before_training
from tuning.check_scheduler import check_scheduler
from tuning.dry_run import dry_run as plan_of
from tuning.dry_run import show
from tuning.outcome import SUMMARY
from tuning.space import points
from tuning.study import run_study


def run(study: StudyConfig, dry_run: bool = False) -> None:
    study, base = before_training.checked(study, say)
    check_scheduler(study, points(study))
    if dry_run:
        show(plan_of(study, base), say)
        return
    done = run_study(study, base, say)
    show_summary(study, done)
    say(f"summary: {study.folder / SUMMARY}")
    summary.check(done)


if __name__ == "__main__":
    cli.run_job("sweep")
