"""MLflow's own page in a real browser: which setting keeps pass@k, without any set-up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.results import Cell
from forkdiv.tracking.address import Address
from forkdiv.tracking.sender import Sender
from forkdiv.tracking.server import Server
from tests.jobs.conftest import free_port
from tests.soak.devtools import Browser
from tests.summaries import grid_summary
from tests.tracking.servers import TrackingServer
from tuning.record import TrialRecord
from tuning.space import Point, at, points
from tuning.study_record import StudyRecord
from tuning.trial import TrialResult

pytestmark = pytest.mark.soak

SETTINGS = (
    *("name=page", "eval.samples=64", "eval.k=[1,4,16,64]"),
    *("sweep.fork_density=[0,0.5,1]", "sweep.temperature=[0.7,1.0]"),
)
DRAW_S = 15.0  # MLflow draws charts when they come into view


@dataclass(frozen=True)
class Page:
    """The page of a study that was recorded, and the address of its trials."""

    browser: Browser
    address: str
    experiment: str
    trials: str


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    root = tmp_path_factory.mktemp("page")
    study = load(None, [*SETTINGS, f"place.root={root}"])
    record = StudyRecord(study, "ab" * 16)
    record.start(print)
    for point in points(study):
        name = point.name
        with TrialRecord(record.folder, at(study, point), study, point, name, print) as trial:
            trial.measured({"sample/samples_per_s": 100.0})
            trial.finished(result(point))
    report = root / "report.html"
    report.write_text("<h1>The report of the study</h1>")
    record.finish(grid_summary(), [report], print)
    Sender(record.folder, Server(Address.of(study.place))).send()
    server = TrackingServer(root, free_port(), f"sqlite:///{root / 'mlflow.db'}")
    server._options = ("--artifacts-destination", "./mlartifacts")
    server.start()
    run = record.sent_run()
    assert run is not None
    with Browser(root / "browser") as browser:
        yield Page(browser, server.uri, run.experiment, run.trials_url.partition("#")[2])
    server.kill()


def result(point: Point) -> TrialResult:
    """pass@64 is largest at density 0.5 and temperature 1."""
    density = float(point.varied.get("fork_density", 0.25))
    value = 0.9 - abs(density - 0.5) + 0.1 * (point.temperature - 1)
    cells: list[Cell] = []
    for cell in grid_summary().cells:
        if cell.subset == "all" and len(cells) < 1:
            ks = (1, 4, 16, 64)
            one = next(iter(cell.pass_at.values()))
            assert one is not None
            limits = {k: one.model_copy(update={"value": value * k / 64}) for k in ks}
            change = {} if not point.tuned else {k: limits[k] for k in ks}
            found: Cell = cell.model_copy(update={"pass_at": limits, "delta_to_base": change})
            cells.append(found)
    return TrialResult(point, "counts", cells, f"checkpoint-{density}")


def test_the_address_that_a_study_prints_answers_the_question(page: Page, tmp_path: Path) -> None:
    text = page.browser.open(f"{page.address}/#{page.trials}", "Which setting keeps pass@64?")
    time.sleep(DRAW_S)
    text = str(page.browser.run("document.body.innerText"))
    page.browser.picture(tmp_path / "trials.png")
    for chart in ("delta_pass_at_64", "pass_at_k", "Parallel Coordinates", "fork_density vs."):
        assert chart in text
    for trial in ("base T=1", "base T=0.7", "density=0.5 T=1", "density=0 T=0.7"):
        assert trial in text
    assert "8 matching runs" in text
    order = [line for line in text.splitlines() if line.startswith(("density=", "base T="))]
    assert order[0] == "density=0.5 T=1"


def test_the_table_has_the_settings_and_pass_at_k(page: Page, tmp_path: Path) -> None:
    address = f"{page.address}/#{page.trials}".replace("&compareRunsMode=CHART", "")
    text = page.browser.open(address, "density=0.5 T=1")
    page.browser.picture(tmp_path / "table.png")
    for column in ("fork_density", "temperature", "pass_at_64", "pass_at_1"):
        assert column in text


def test_the_base_does_not_appear_beside_the_largest_density(page: Page, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    runs = MlflowClient(page.address).search_runs([page.experiment])
    trials = ",".join(
        f"%22{run.info.run_id}%22" for run in runs if "forkdiv.model" in run.data.tags
    )
    address = f"{page.address}/#/compare-runs?runs=[{trials}]&experiments=[%22{page.experiment}%22]"
    text = page.browser.open(address, "Parallel Coordinates Plot")
    time.sleep(DRAW_S)
    text = str(page.browser.run("document.body.innerText"))
    page.browser.picture(tmp_path / "compare.png")
    plot = text.partition("Run details")[0]
    assert "1.01" not in plot and "base" in plot
    assert "sft." not in plot, "a constant crowds the comparison"


def test_the_studys_run_leads_to_its_report(page: Page, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    runs = MlflowClient(page.address).search_runs([page.experiment])
    (study,) = [run for run in runs if "forkdiv.model" not in run.data.tags]
    run = f"{page.address}/#/experiments/{page.experiment}/runs/{study.info.run_id}"
    page.browser.open(run, "its trials are child runs")
    page.browser.picture(tmp_path / "study.png")
    links = page.browser.run("[...document.querySelectorAll('a')].map(a => a.href).join(' ')")
    (report,) = [link for link in str(links).split() if "report.html" in link]
    page.browser.open(report, "report.html")
    page.browser.picture(tmp_path / "report.png")
