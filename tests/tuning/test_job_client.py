"""A job is followed to its end: whole lines, once each, also when the connection breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from forkdiv.core.errors import InvalidResult, UserError
from tuning import job_client
from tuning.job_client import Jobs

LOG = "a first line\nsecond ü\nthird\nthe end"


class Cluster:
    """Stands in for Ray's client: each item of `connections` is the text that one connection sends
    before it breaks, the whole log the last time."""

    def __init__(self, *connections: str, status: str = "SUCCEEDED", **info: Any) -> None:
        self.connections = list(connections)
        self.info = {"driver_exit_code": 0, "message": "", **info}
        self.end = JobStatus(status)
        self.waiting = 0  # answers before the job has started
        self.silent = False

    def get_job_info(self, job: str) -> Any:
        if self.silent:
            raise ConnectionError("refused")
        if job != "raysubmit_1":
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        status = self.end if not self.connections else JobStatus.RUNNING
        if self.waiting:
            self.waiting -= 1
            status = JobStatus.PENDING
        return SimpleNamespace(status=status, **self.info)

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        text = self.connections.pop(0)
        for at in range(0, len(text), 7):
            yield text[at : at + 7]
        if text != LOG:
            raise RuntimeError("WebSocket connection closed unexpectedly")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_client, "POLL_S", 0.01)
    monkeypatch.setattr(job_client, "PATIENCE_S", 0.0)
    monkeypatch.setattr(job_client, "SILENT_S", 0.05)


def followed(cluster: Cluster, job: str = "raysubmit_1") -> tuple[int, list[str]]:
    lines: list[str] = []
    return Jobs("http://h:8265", cluster).follow(job, lines.append), lines


@pytest.mark.parametrize("before", [(), (LOG[:3],), (LOG[:20], LOG[:9], LOG[:25])])
def test_every_line_is_shown_once_however_often_the_connection_breaks(
    before: tuple[str, ...],
) -> None:
    assert followed(Cluster(*before, LOG)) == (0, LOG.split("\n"))


def test_the_status_of_the_job_is_that_of_its_driver() -> None:
    assert followed(Cluster(LOG, status="FAILED", driver_exit_code=2))[0] == 2
    status, lines = followed(
        Cluster(LOG, status="FAILED", driver_exit_code=None, message="its node\ndied")
    )
    assert status == 1 and "failed: its node died; submit it again" in lines[-1]
    status, lines = followed(Cluster(LOG, status="STOPPED"))
    assert status == 1 and "was stopped" in lines[-1]


def test_a_job_that_has_not_started_says_why() -> None:
    cluster = Cluster(LOG, message="waiting for resources")
    cluster.waiting = 4
    assert followed(cluster)[1][0] == "the job waits: waiting for resources"


def test_a_cluster_that_is_lost_and_a_job_that_is_not_there_are_one_line() -> None:
    cluster = Cluster(LOG)
    with pytest.raises(UserError, match="does not know this job: got raysubmit_2"):
        followed(cluster, "raysubmit_2")
    cluster.silent = True
    with pytest.raises(InvalidResult, match="submit the study again"):
        followed(cluster)
