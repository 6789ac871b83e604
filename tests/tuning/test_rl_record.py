"""The MLflow run of rl gets every row once, as the run goes on, and survives a failing MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store
from forkdiv.rl.job import LOG
from forkdiv.rl.meter import read_log
from forkdiv.tracking import TrackingFailed
from tuning import rl_record

IDENTITY = Identity("rl", {"a": 1})
INPUTS: Any = SimpleNamespace(identity=IDENTITY)


@dataclass
class Mlflow:
    fails: bool = False
    sent: list[Mapping[str, float]] = field(default_factory=list)
    ends: list[tuple[Mapping[str, float], bool]] = field(default_factory=list)

    def study(self, fingerprint: str, name: str, params: Mapping[str, Any]) -> str:
        assert fingerprint == IDENTITY.fingerprint and params["rl.episodes"] == 64
        return "run"

    def rows(self, run: str, rows: Sequence[Mapping[str, float]]) -> None:
        if self.fails:
            raise TrackingFailed("MLflow did not take it")
        self.sent += rows

    def finish(self, run: str, metrics: Mapping[str, float], files: object, valid: bool) -> None:
        self.ends.append((metrics, valid))


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    fake = Mlflow()
    monkeypatch.setattr(rl_record, "Tracker", SimpleNamespace(of=lambda place: fake))
    monkeypatch.setattr(rl_record, "EVERY_S", 0.02)
    return fake


def log(folder: Path, *numbers: int) -> None:
    names = ("time", *rl_record.HEADLINE)
    with (folder / LOG).open("a") as file:
        for number in numbers:
            row = {"iteration": number} | dict.fromkeys(names, float(number))
            file.write(json.dumps(row) + "\n")


def test_rows_are_sent_while_the_run_goes_on_and_each_once(mlflow: Mlflow, tmp_path: Path) -> None:
    store = Store(tmp_path)
    work = store.workspace(IDENTITY)
    with rl_record.recording(StudyConfig(), INPUTS, store, print):
        log(work, 1, 2)
        deadline = time.monotonic() + 20
        while not mlflow.sent and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mlflow.sent
        log(work, 3)
    assert [row["step"] for row in mlflow.sent] == [1, 2, 3]
    assert mlflow.sent[0]["time"] == 1.0 and "iteration" not in mlflow.sent[0]
    ((means, valid),) = mlflow.ends
    assert valid and means["last_reward"] == 2.0


def test_a_run_that_stops_is_ended_as_invalid(mlflow: Mlflow, tmp_path: Path) -> None:
    store = Store(tmp_path)
    log(store.workspace(IDENTITY), 1)
    with pytest.raises(RuntimeError, match="stopped"):
        with rl_record.recording(StudyConfig(), INPUTS, store, print):
            raise RuntimeError("stopped")
    assert [valid for _, valid in mlflow.ends] == [False]
    assert len(mlflow.sent) == 1


def test_mlflow_that_fails_costs_one_line(mlflow: Mlflow, tmp_path: Path) -> None:
    mlflow.fails = True
    store, lines = Store(tmp_path), list[str]()
    log(store.workspace(IDENTITY), 1)
    with rl_record.recording(StudyConfig(), INPUTS, store, lines.append):
        log(store.workspace(IDENTITY), 2)
    (line,) = lines
    assert "the run in MLflow is incomplete, its results are complete" in line
    assert not mlflow.ends


def test_a_repeated_iteration_counts_once_and_half_a_line_does_not(tmp_path: Path) -> None:
    log(tmp_path, 1, 2, 2)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"iteration": 3, "rew')
    assert [row["iteration"] for row in read_log(tmp_path)] == [1, 2]
