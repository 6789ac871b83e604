"""A search by Optuna in real Ray Tune: kill -9 of its driver, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack import ROOT
from tests.tuning.search_process import FINGERPRINT
from tuning.choices import Choices

SETTINGS = (
    "sweep.axes={sft.learning_rate: {log: [1e-3, 0.9]}, dataset.examples: [null, 100], "
    "temperature: [0.7, 1]}",
    *("sweep.search=optuna", "sweep.trials=6"),
)


def start(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tuning.search_process", str(root), *SETTINGS]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.stack
@pytest.mark.timeout(1800)
def test_a_killed_search_measures_what_it_had_chosen_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "study" / "trials" / FINGERPRINT
    killed = start(tmp_path)
    while len(finished := list(folder.glob("*.json"))) < 2:
        assert killed.poll() is None, "it ended before it was killed"
        time.sleep(0.2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    before = Choices(folder).chosen
    times = {file: file.stat().st_mtime_ns for file in finished}
    again = start(tmp_path)
    out, _ = again.communicate(timeout=1500)
    assert again.returncode == 0
    after = Choices(folder).chosen
    assert after[: len(before)] == before and len(after) == 6
    assert {file: file.stat().st_mtime_ns for file in finished} == times, "they are kept"
    names = [line.removeprefix("measured ") for line in out.splitlines() if "measured" in line]
    tuned = [name for name in names if not name.startswith("base")]
    assert len(set(tuned)) == len(tuned) == 6
    ways = {name.split()[-1] for name in tuned}
    assert {name for name in names if name.startswith("base")} == {f"base {way}" for way in ways}
