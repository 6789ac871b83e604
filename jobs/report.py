"""The report of a finished study, written again from its summary.

forkdiv report --config quickstart
forkdiv report --config quickstart --beside runs/one --beside runs/two
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.results import Summary
from forkdiv.core.store import check_writable
from forkdiv.coverage import summary
from forkdiv.report import comparison, page, studies, tables
from forkdiv.report.answer import QUESTION, answer
from forkdiv.report.grid import Grid
from forkdiv.report.headline import headline
from forkdiv.terminal import say, show_table
from forkdiv.tracking import Tracker
from tuning.outcome import SUMMARY, parent_run


def run(study: StudyConfig, beside: Sequence[Path] = ()) -> None:
    """`beside` are result folders of other studies, for one more page that compares them all."""
    path = study.folder / SUMMARY
    if not path.is_file():
        raise refuse(
            "there is no finished study of this name",
            path,
            "a study whose sweep has finished",
            "run `forkdiv study` or `forkdiv sweep` first, or set name and place.root",
        )
    check_writable(study.place.root, study.place.min_free_mib)
    done = studies.read(study.folder)
    others = studies.named([study.folder, *beside]) if beside else []
    say(f"report: {write_report(study, done)}")
    if others:
        say(f"comparison: {comparison.write(others, study.folder)}")


def conclude(study: StudyConfig, done: Summary) -> None:
    """Report, MLflow and the terminal of what has just been measured.

    Raises InvalidResult, after all is written, where a cell cannot be trusted.
    """
    written = write_report(study, done)
    tracker = Tracker.of(study.place)
    files = [written, written.with_name(SUMMARY), *sorted(written.parent.glob("figures/*.png"))]
    tracker.finish(
        parent_run(study, done.fingerprint), summary.metrics(done), files, summary.is_valid(done)
    )
    show_table(*tables.table(done), title=f"{study.name}: pass@k and its change to the base")
    say(f"{QUESTION} {answer(Grid.of(done))}")
    say(headline(done))
    say(f"report: {written}")
    mlflow = Path(sys.executable).with_name("mlflow")
    say(f"compare the trials in MLflow: {mlflow} ui --backend-store-uri {tracker.uri} --port 5000")
    say(f"  then open http://127.0.0.1:5000/#/experiments/{tracker.experiment_id()}/runs")
    summary.check(done)


def write_report(study: StudyConfig, done: Summary) -> Path:
    """The report's page, in the study's folder."""
    return page.write(done, study.folder)


if __name__ == "__main__":
    cli.run_job("report")
