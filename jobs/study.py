"""Run a whole study: sweep, table, report, MLflow.

    forkdiv study --config quickstart
    forkdiv study --config my.yaml sft.epochs=8 name=mine
    ray job submit --working-dir . -- python -m jobs.study --config quickstart

Finished stages are reused, so a stopped study continues.
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.terminal import say
from jobs.report import write_results
from tuning import before_training
from tuning.check_scheduler import check_scheduler
from tuning.dry_run import dry_run as plan_of
from tuning.dry_run import show
from tuning.space import points
from tuning.study import run_study


def run(study: StudyConfig, dry_run: bool = False) -> None:
    study, base = before_training.checked(study, say)
    check_scheduler(study, points(study))
    if dry_run:
        show(plan_of(study, base), say)
        return
    write_results(study, run_study(study, base, say))


if __name__ == "__main__":
    cli.run_job("study")
