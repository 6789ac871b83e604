"""The last lines of a study name what its reader can open: on a cluster, nothing of one host."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.results import TrackedRun
from jobs.report import where_to_look

REPORT = Path("/shared/runs/s/report.html")
LOCAL = TrackedRun.of("sqlite:////shared/runs/mlflow.db", "7", "ab")


def lines(run: TrackedRun | None, *settings: str) -> str:
    return "\n".join(where_to_look(load(None, ["place.root=/shared/runs", *settings]), REPORT, run))


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_here_the_lines_can_be_copied_as_they_are() -> None:
    text = lines(LOCAL)
    assert f"report: {REPORT}\n" in text
    assert "cd /shared/runs && " in text and "/bin/mlflow ui --port" in text
    assert "#/experiments/7/runs" in text


def test_on_a_cluster_they_name_the_shared_folder_and_no_program_of_a_host() -> None:
    text = lines(LOCAL, "place.ray_address=10.0.0.5:6379")
    assert text.count("on every host that mounts /shared/runs") == 2
    assert "cd /shared/runs && mlflow ui --port" in text and "/bin/mlflow" not in text


def test_a_server_of_mlflow_is_opened_not_started() -> None:
    served = TrackedRun.of("http://user:secret@mlflow:5000/", "7", "ab")
    text = lines(served)
    assert "http://mlflow:5000/#/experiments/7/runs" in text
    assert "mlflow ui" not in text and "secret" not in text


def test_without_a_run_in_mlflow_only_the_report_is_named() -> None:
    assert lines(None) == f"report: {REPORT}"
