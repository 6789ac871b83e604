"""A sampler ends with its driver, also when the driver was killed; what waits is named."""

from __future__ import annotations

import pytest

from tests.jobs.conftest import submit, wait_until_up

pytestmark = [pytest.mark.stack, pytest.mark.soak]  # timing of Serve on a loaded machine


def test_nothing_of_a_killed_driver_is_left(head: str) -> None:
    wait_until_up(head)
    words = ("--entrypoint-num-cpus", "0.25", "--")
    killed = submit(head, "python", "-m", "tests.jobs.orphan", "leave", timeout=200, words=words)
    assert killed.returncode != 0
    log = killed.stdout.partition("Status message")[0]  # which repeats the log
    assert log.count("forkdiv-sampler-") == 2, killed.stdout
    assert "processes wait for 1 × 0.1 CPU and 1 GPU; free on the cluster: " in killed.stdout
    # what the job reserves for itself is not free
    assert "autoscaler: False; hosts: [{'CPU': 1.75, 'GPU': 0.0}]" in killed.stdout, killed.stdout
    found = submit(head, "python", "-m", "tests.jobs.orphan", "find", timeout=200)
    assert found.returncode == 0, found.stdout
    assert "deleted: ['waits']; kept: ['mine']" in found.stdout, found.stdout
