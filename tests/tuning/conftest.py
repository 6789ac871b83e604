"""A study on the real stack that several modules look at."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stack import kill_when, read_progress, run, said

GRID = ("sweep.fork_density=[0.0,1.0]", "sweep.temperature=[0.7,1.0]")


@dataclass(frozen=True)
class Study:
    """A study that was killed while it fine-tuned, run again to its end, and once more."""

    root: Path
    before_kill: list[dict[str, Any]]
    output: str
    again: str
    again_seconds: float

    @property
    def folder(self) -> Path:
        return self.root / "micro"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The progress of all its runs."""
        return read_progress(self.folder / "progress.jsonl")

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("runs")
    before = kill_when("study", root, GRID, lambda events: said(events, "fine-tuning: step") > 0)
    output = run("study", root, *GRID).stdout
    summary = (root / "micro" / "summary.json").read_text()
    started = time.monotonic()
    again = run("study", root, *GRID).stdout
    seconds = time.monotonic() - started
    assert (root / "micro" / "summary.json").read_text() == summary
    return Study(root, before, output, again, seconds)
