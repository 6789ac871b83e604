"""`forkdiv serve` as its user starts it, for tests of its routes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack import ROOT, clean_environment

START_S = 300


@contextmanager
def served(folder: Path, *checkpoints: Path | str) -> Iterator[str]:
    """Serves the checkpoints; yields the server's address. `folder` gets its log and results."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [f"place.http.port={port}", "place.dashboard=false", f"place.root={folder}/runs"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jobs.serve", "--checkpoints"),
                *(*map(str, checkpoints), *settings),
            ],
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
