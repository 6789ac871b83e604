"""A whole study: sweep, table, report, MLflow.

forkdiv study --config jobs/configs/quickstart.yaml
ray job submit --working-dir . -- python -m jobs.study --config jobs/configs/quickstart.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

from forkdiv import cli, preflight, summary
from forkdiv.config import StudyConfig
from forkdiv.report import tables
from forkdiv.report.headline import headline
from forkdiv.terminal import say, show_table
from forkdiv.track import Tracker
from jobs.report import write_report
from tuning.space import check_data
from tuning.study import conduct, parent_run


def run(study: StudyConfig) -> None:
    base = preflight.check(study)
    check_data(study)
    done = conduct(study, base, say)
    page = write_report(study, done)
    tracker = Tracker.of(study.place)
    files = [page, page.with_name("summary.json"), *sorted(page.parent.glob("figures/*.png"))]
    tracker.finish(
        parent_run(study, done["fingerprint"]), summary.metrics(done), files, summary.trusted(done)
    )
    show_table(*tables.table(done), title=f"{study.name}: pass@k and its change to the base")
    say(headline(done))
    say(f"report: {page}")
    mlflow = Path(sys.executable).with_name("mlflow")
    say(f"compare the trials in MLflow: {mlflow} ui --backend-store-uri {tracker.uri} --port 5000")
    say(f"  then open http://127.0.0.1:5000/#/experiments/{tracker.experiment_id()}/runs")
    summary.check(done)


if __name__ == "__main__":
    cli.run_job("study")
