"""Write the report of a finished study again, from its summary.

forkdiv report --config quickstart
forkdiv report --config quickstart --beside runs/one --beside runs/two
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult, UserError, refuse
from forkdiv.core.results import Summary, TrackedRun
from forkdiv.core.results.tracked import PORT
from forkdiv.core.store import Store, check_place
from forkdiv.coverage import summary
from forkdiv.report import comparison, glance, guess, page, reliability, samples, studies
from forkdiv.report.answer import QUESTION, answer
from forkdiv.report.cut_off import cut_off_line
from forkdiv.report.grid import Grid
from forkdiv.report.headline import warning
from forkdiv.report.page import Link
from forkdiv.terminal import say, show_table
from forkdiv.tracking.address import DATABASE, Address
from jobs.export import models_of
from tuning.check_ray import ray_address
from tuning.models import Model, reported
from tuning.outcome import SUMMARY
from tuning.shown_samples import shown_samples
from tuning.study_record import StudyRecord


def run(study: StudyConfig, beside: Sequence[Path] = ()) -> None:
    """With `beside`, the result folders of other studies, it also writes a page that compares all
    studies."""
    path = study.folder / SUMMARY
    if not path.is_file():
        raise refuse(
            "there is no finished study with this name",
            f"no file {path}",
            "the name of a study whose sweep has finished",
            "run `forkdiv study` or `forkdiv sweep` first, or correct name and place.root",
        )
    check_place(study.place)
    done = studies.read(study.folder)
    others = studies.load_studies([study.folder, *beside]) if beside else []
    say(f"report: {write_report(study, done)}")
    if others:
        say(f"comparison: {comparison.write(others, study.folder)}")


def write_results(study: StudyConfig, done: Summary, models: Sequence[Model] = ()) -> None:
    """Writes the report, ends the MLflow run and prints the results of a new summary. `models` are
    those whose samples are shown, by default those of the study's settings.

    Raises InvalidResult, after everything is written, if a cell is invalid.
    """
    record = StudyRecord(study, done.fingerprint)
    record.ensure_started(say)
    with record.sending(say):
        pass  # until MLflow has the run, to which the report has a link
    run = record.sent_run()
    written = write_report(study, done, run, models)
    with record.sending(say):
        record.finish(done, _logged_files(written), say)
    show_summary(study, done)
    for line in where_to_look(study, written, run):
        say(line)
    summary.check(done)


def where_to_look(study: StudyConfig, report: Path, run: TrackedRun | None) -> list[str]:
    """Returns lines that name the report and say how to open the study's runs in MLflow. A job of a
    cluster runs on any of its hosts: what only that host knows means nothing to the reader."""
    on_cluster = ray_address(study.place) is not None
    there = f" (on every host that mounts {study.place.root})" if on_cluster else ""
    lines = [f"report: {report}{there}"]
    if run is None:
        return lines
    if run.is_server:
        return [*lines, f"compare the trials in MLflow: {run.trials_url}"]
    program = Path("mlflow") if on_cluster else Path(sys.executable).with_name("mlflow")
    start = mlflow_ui(run, program)
    return [
        *lines,
        f"compare the trials in MLflow: {start}{there}",
        f"  then open {run.trials_url}",
    ]


def mlflow_ui(run: TrackedRun, program: Path = Path("mlflow")) -> str:
    """Returns the command that shows a database of this machine. Without options, MLflow looks for
    its database and its files in the current folder, so that the command also holds after they were
    moved together."""
    file = Address(run.uri, None).file
    if file and file.name == DATABASE:
        return f"cd {shlex.quote(str(file.parent))} && {program} ui --port {PORT}"
    return f"{program} ui --backend-store-uri {run.uri} --port {PORT}"


def _logged_files(report: Path) -> list[Path]:
    beside = [report.with_name(name) for name in (SUMMARY, samples.PAGE)]
    pictures = sorted(report.parent.glob("figures/*.png"))
    return [report, *(file for file in beside if file.is_file()), *pictures]


def show_summary(study: StudyConfig, done: Summary) -> None:
    """Prints one table of the models and a one-sentence answer; the report has all results."""
    grid = Grid.of(done)
    if message := warning(done):
        say(message)
    title = f"{study.name}: {glance.terminal_title(grid)}"
    show_table(*glance.terminal_table(grid), title=title)
    show_beside_pass_at_k(grid)
    if line := cut_off_line(grid):
        say(f"note: {line}")
    say(f"{QUESTION} {answer(grid)}")


def show_beside_pass_at_k(grid: Grid) -> None:
    """Prints cover@τ of a single comparison, and a warning if pass@k may be guessing."""
    for line in (reliability.headline(grid), guess.warning(grid)):
        if line:
            say(line)


def write_report(
    study: StudyConfig,
    done: Summary,
    run: TrackedRun | None = None,
    models: Sequence[Model] = (),
) -> Path:
    """Writes the report and the page of samples to the study's folder; returns the report's path.
    `run` is the study's MLflow run; by default the one that is recorded next to the summary."""
    links = [*_samples_link(study, models), *_mlflow_links(run or TrackedRun.kept_in(study.folder))]
    return page.write(done, study.folder, links)


def _samples_link(study: StudyConfig, models: Sequence[Model]) -> list[Link]:
    """Writes the page of samples and returns the link to it. If samples are missing in the store,
    for example on another machine, the report says why there is no page."""
    store = Store.of(study.place)
    try:
        shown = shown_samples(study.name, reported(models or models_of(study, store)), store)
    except (InvalidResult, UserError) as error:
        say(f"the page of samples is not written: {error}")
        return [Link("This report has no page of samples: ", str(error), after=". ")]
    written = samples.write(shown, study.folder)
    say(f"samples: {written}")
    return [Link("", "Samples by problem and verdict", written.name, after=". ")]


def _mlflow_links(run: TrackedRun | None) -> list[Link]:
    if run is None:
        return []
    if run.is_server:
        return [Link("", "The study's run in MLflow", run.url, after=". ")]
    return [
        Link("The study's run in MLflow: start ", mlflow_ui(run), after=", then open "),
        Link("", run.url, run.url, after=". "),
    ]


if __name__ == "__main__":
    cli.run_job("report")
