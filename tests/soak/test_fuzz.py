"""Damaged inputs of every kind: 10,000 at the readers, 500 commands, 1,000 requests to one route.

The seed is today's unless FORKDIV_FUZZ_SEED is set; FORKDIV_FUZZ_SHARE=0.1 runs a tenth of each.
Every find names the command that shows it again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fuzz.case import Tally
from tests.stack import ROOT, clean_environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

SEED = int(os.environ.get("FORKDIV_FUZZ_SEED") or f"{datetime.now(UTC):%Y%m%d}")
SHARE = float(os.environ.get("FORKDIV_FUZZ_SHARE") or 1)
READERS, COMMANDS, REQUESTS = 10_000, 500, 1_000
START_S = 300


def numbers(count: int) -> range:
    return range(max(1, round(count * SHARE)))


def require_no_finds(tally: Tally) -> None:
    print(f"seed {SEED}\n{tally.report()}")
    assert not tally.finds, "\n".join(tally.finds)


@pytest.fixture(scope="module")
def route(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`forkdiv serve` with the shipped base."""
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--checkpoints", "graph-d3-l3", f"place.http.port={port}", "place.dashboard=false"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.serve", *words, f"place.root={folder}/runs"],
            cwd=ROOT,
            env=clean_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/health", process, folder / "log.txt")
        yield url
        assert process.poll() is None, (folder / "log.txt").read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while "press Ctrl-C" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    urllib.request.urlopen(url, timeout=30).read()


def test_damaged_inputs_are_refused_in_one_line_by_the_readers() -> None:
    from tests.fuzz import readers

    require_no_finds(readers.fuzz(SEED, numbers(READERS)))


def test_commands_with_damaged_files_and_settings_end_with_one_line_and_a_status() -> None:
    from tests.fuzz import commands

    require_no_finds(commands.fuzz(SEED, numbers(COMMANDS)))


def test_damaged_requests_are_refused_and_the_engine_stays(route: str) -> None:
    from tests.fuzz import requests

    require_no_finds(requests.fuzz(SEED, numbers(REQUESTS), route))
