"""Jobs as they are submitted: `ray job submit` against a head started with `ray start --head`."""

from __future__ import annotations

import pytest

from tests.jobs.conftest import Submitted, submit, wait_until_up

pytestmark = pytest.mark.stack


def test_a_submitted_study_runs_on_the_cluster(submitted: Submitted) -> None:
    assert "succeeded" in submitted.output
    cells = submitted.summary["cells"]
    assert cells and all(cell["valid"] for cell in cells)


def test_bad_input_fails_the_job(head: str, submitted: Submitted) -> None:
    refused = submit(head, *submitted.command, "decoder.temperature=-1")
    assert refused.returncode != 0
    assert "decoder.temperature: got -1" in refused.stdout


def test_a_job_with_a_wrong_token_is_rejected(head: str) -> None:
    wait_until_up(head)
    turned_away = submit(head, "python", "-c", "print('ran')", token="f" * 64, timeout=120)
    assert turned_away.returncode != 0
    assert "ran" not in turned_away.stdout.split()
