"""What tests on the real stack share: a study that takes a minute, run as its user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BASE = ROOT / "forkdiv" / "models" / "base" / "graph-d3-l3"

# Small enough for a test; every stage of the line is the real one.
MICRO = (
    "name=micro",
    f"base={BASE}",
    "dataset.examples=64",
    "sft.epochs=2",
    "sft.save_epochs=[1]",
    "eval.problems=20",
    "eval.samples=8",
    "eval.bootstrap=200",
    "place.dashboard=false",
)


def command(verb: str, root: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{verb}", *MICRO, f"place.root={root}", *overrides]


def run(
    verb: str, root: Path, *overrides: str, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run a job as its user would and return what it printed; a failure shows all of it."""
    done = subprocess.run(
        command(verb, root, *overrides),
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def kill_when(
    verb: str,
    root: Path,
    overrides: Sequence[str],
    ready: Callable[[list[dict[str, Any]]], bool],
    study: str = "micro",
    timeout: float = 600,
) -> list[dict[str, Any]]:
    """Start a job, kill -9 it once its progress satisfies `ready`; returns that progress."""
    path = root / study / "progress.jsonl"
    process = subprocess.Popen(
        command(verb, root, *overrides),
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            events = read_progress(path)
            if ready(events):
                return events
            assert process.poll() is None, f"ended by itself with {process.returncode}: {events}"
            time.sleep(0.02)
        raise AssertionError(f"not ready for the kill within {timeout} s: {read_progress(path)}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def read_progress(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def said(events: list[dict[str, Any]], text: str) -> int:
    """How many lines of the progress hold `text`."""
    return sum(text in event["message"] for event in events)


def clean_environment() -> dict[str, str]:
    """Without what a Ray around the tests may have set."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
