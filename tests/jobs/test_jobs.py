"""Jobs as they are submitted: `ray job submit` against a head started with `ray start --head`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import MICRO, ROOT, clean_environment

pytestmark = pytest.mark.stack

RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = "0123456789abcdef" * 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head of two CPUs with token authentication; yields its job address."""
    dashboard, gcs, agent = free_port(), free_port(), free_port()
    environment = clean_environment() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        # as in an activated environment: the job's `python` is looked up here
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
            *("--include-dashboard=true", "--disable-usage-stats"),
            # by default one port for every Ray of a machine: the second one takes no jobs
            f"--dashboard-agent-listen-port={agent}",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path_factory.mktemp("head"),
    )
    try:
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


def submit(
    address: str, *command: str, token: str = TOKEN, timeout: float = 500
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *command],
        cwd=ROOT,
        env=clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def wait_until_up(address: str) -> None:
    """Until a job is taken: the agent that starts jobs comes up some time after the dashboard."""
    for _ in range(60):
        tried = subprocess.run(
            [RAY, "job", "submit", "--address", address, "--no-wait", "--", "true"],
            env=clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if tried.returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(f"the head is not up: {tried.stderr[-2000:]}")


def test_a_submitted_study_runs_on_the_cluster_and_bad_input_fails_the_job(
    head: str, tmp_path: Path
) -> None:
    wait_until_up(head)
    study = [
        *("python", "-m", "jobs.study", *MICRO, f"place.root={tmp_path}"),
        "base=forkdiv/models/base/graph-d3-l3",  # relative: it travels with the working directory
        *("sweep.fork_density=[1.0]", "eval.problems=8", "sft.epochs=1", "sft.save_epochs=[]"),
    ]
    done = submit(head, *study)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "succeeded" in done.stdout
    summary = json.loads((tmp_path / "micro" / "summary.json").read_text())
    assert [cell["fork_density"] for cell in summary["cells"]] == [1.0] * 3

    refused = submit(head, *study, "decoder.temperature=-1")
    assert refused.returncode != 0
    assert "decoder.temperature: got -1" in refused.stdout


def test_a_job_with_a_wrong_token_is_turned_away(head: str) -> None:
    wait_until_up(head)
    turned_away = submit(head, "python", "-c", "print('ran')", token="f" * 64, timeout=120)
    assert turned_away.returncode != 0
    assert "ran" not in turned_away.stdout.split()
