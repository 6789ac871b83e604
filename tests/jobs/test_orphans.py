"""A sampler ends with its driver, also when the driver was killed."""

from __future__ import annotations

import pytest

from tests.jobs.conftest import submit, wait_until_up

pytestmark = pytest.mark.stack


def test_nothing_of_a_killed_driver_is_left(head: str) -> None:
    wait_until_up(head)
    killed = submit(head, "python", "-m", "tests.jobs.orphan", "leave", timeout=200)
    assert killed.returncode != 0
    assert killed.stdout.count("forkdiv-sampler-") == 2, killed.stdout
    found = submit(head, "python", "-m", "tests.jobs.orphan", "find", timeout=200)
    assert found.returncode == 0, found.stdout
    assert "deleted: ['waits']; kept: ['mine']" in found.stdout, found.stdout
