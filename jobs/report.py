"""The report of a finished study, written again from its summary.

forkdiv report --config jobs/configs/quickstart.yaml
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from forkdiv import cli, summary
from forkdiv.artifacts import check_writable
from forkdiv.config import StudyConfig
from forkdiv.errors import refuse
from forkdiv.report import page, tables
from forkdiv.report.headline import headline
from forkdiv.terminal import say, show_table
from forkdiv.track import Tracker
from tuning.study import SUMMARY, folder, parent_run


def run(study: StudyConfig) -> None:
    path = folder(study) / SUMMARY
    if not path.is_file():
        raise refuse(
            "there is no finished study of this name",
            path,
            "a study whose sweep has finished",
            "run `forkdiv study` or `forkdiv sweep` first, or set name and place.root",
        )
    check_writable(study.place.root, study.place.min_free_mib)
    done = json.loads(path.read_text())
    if "axes" not in done:
        raise refuse(
            "the study was summarised by an older forkdiv",
            f"{path} of {done.get('created')}",
            "a summary of this version",
            "run `forkdiv study` again",
        )
    say(f"report: {write_report(study, done)}")


def conclude(study: StudyConfig, done: dict[str, Any]) -> None:
    """Report, MLflow and the terminal of what has just been measured.

    Raises InvalidResult, after all is written, where a cell cannot be trusted.
    """
    written = write_report(study, done)
    tracker = Tracker.of(study.place)
    files = [written, written.with_name(SUMMARY), *sorted(written.parent.glob("figures/*.png"))]
    tracker.finish(
        parent_run(study, done["fingerprint"]), summary.metrics(done), files, summary.trusted(done)
    )
    show_table(*tables.table(done), title=f"{study.name}: pass@k and its change to the base")
    say(headline(done))
    say(f"report: {written}")
    mlflow = Path(sys.executable).with_name("mlflow")
    say(f"compare the trials in MLflow: {mlflow} ui --backend-store-uri {tracker.uri} --port 5000")
    say(f"  then open http://127.0.0.1:5000/#/experiments/{tracker.experiment_id()}/runs")
    summary.check(done)


def write_report(study: StudyConfig, done: dict[str, Any]) -> Path:
    """The report's page, in the study's folder."""
    return page.write(done, folder(study))


if __name__ == "__main__":
    cli.run_job("report")
