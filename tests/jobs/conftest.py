"""A Ray head as a cluster's, and the study that is submitted to it for several tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stack import MICRO, ROOT, clean_environment

RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = "0123456789abcdef" * 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """The folder of the head's temporary files, with a path short enough for its sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory, ray_folder: Path) -> Iterator[str]:
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
            *("--include-dashboard=true", "--disable-usage-stats", f"--temp-dir={ray_folder}"),
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
    address: str,
    *command: str,
    token: str = TOKEN,
    timeout: float = 800,
    words: Sequence[str] = ("--",),
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RAY, "job", "submit", "--address", address, "--working-dir", ".", *words, *command],
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


@dataclass(frozen=True)
class Submitted:
    """A study over the ways of synthesis, as a job of the cluster."""

    root: Path
    command: tuple[str, ...]
    output: str

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "micro" / "summary.json").read_text())
        return found


@pytest.fixture(scope="session")
def submitted(head: str, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    root = tmp_path_factory.mktemp("submitted")
    wait_until_up(head)
    command = (
        *("python", "-m", "jobs.study", *MICRO, f"place.root={root}"),
        "base=forkdiv/models/base/graph-d3-l3",  # relative: it travels with the working directory
        "task={degree: 3, length: 3, valid: 2, names: 16}",
        "dataset={examples: 40, fork_density: 1.0, branch_coverage: 1}",
        *("sft={epochs: 1, batch_size: 8}", "eval.problems=8"),
        *("sweep.synthesis=[none, enumerator, samples]", "synthesis.samples=16"),
    )
    done = submit(head, *command)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return Submitted(root, command, done.stdout)
