"""The record of rl for MLflow has every row once, as the run goes on, and its end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store
from forkdiv.rl.job import LOG
from forkdiv.rl.meter import read_log
from forkdiv.tracking.events import Metrics, RunEnd, RunStart, Value
from forkdiv.tracking.outbox import Outbox, study_folder
from forkdiv.tracking.sender import STUDY
from tuning import rl_record

IDENTITY = Identity("rl", {"a": 1})
INPUTS: Any = SimpleNamespace(identity=IDENTITY)


class NotSending:
    """In place of the sender, which has tests of its own."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rl_record, "Sending", NotSending)
    monkeypatch.setattr(rl_record, "EVERY_S", 0.02)


def study(root: Path) -> StudyConfig:
    return StudyConfig.model_validate({"place": {"root": root}})


def outbox(root: Path) -> Outbox:
    folder = study_folder(study(root).folder, IDENTITY.fingerprint).resolve()
    return Outbox(folder / STUDY)


def recorded(root: Path, name: str = "reward") -> list[Value]:
    events = (event for event in outbox(root).events() if isinstance(event, Metrics))
    return [value for event in events for value in event.values if value.name == name]


def log(folder: Path, *numbers: int) -> None:
    names = ("time", *rl_record.HEADLINE)
    with (folder / LOG).open("a") as file:
        for number in numbers:
            row = {"iteration": number} | dict.fromkeys(names, float(number))
            file.write(json.dumps(row) + "\n")


def test_rows_are_recorded_while_the_run_goes_on_and_each_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    work = store.workspace(IDENTITY)
    with rl_record.recording(study(tmp_path), INPUTS, store, print):
        log(work, 1, 2)
        deadline = time.monotonic() + 20
        while not recorded(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert recorded(tmp_path)
        log(work, 3)
    assert [(value.step, value.value, value.ms) for value in recorded(tmp_path)] == [
        (1, 1.0, 1000),
        (2, 2.0, 2000),
        (3, 3.0, 3000),
    ]
    assert [value.value for value in recorded(tmp_path, "last_reward")] == [2.0]
    start, *_, end = outbox(tmp_path).events()
    assert isinstance(start, RunStart) and start.params["rl.episodes"] == "64"
    assert isinstance(end, RunEnd) and end.status == "FINISHED"
    # a finished run is not recorded again
    with rl_record.recording(study(tmp_path), INPUTS, store, print):
        pass
    assert outbox(tmp_path).events()[-1] == end


def test_a_run_that_stops_has_failed_and_goes_on_when_it_is_repeated(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log(store.workspace(IDENTITY), 1)
    with pytest.raises(RuntimeError, match="stopped"):
        with rl_record.recording(study(tmp_path), INPUTS, store, print):
            raise RuntimeError("stopped")
    end = outbox(tmp_path).events()[-1]
    assert isinstance(end, RunEnd) and end.status == "FAILED"
    with rl_record.recording(study(tmp_path), INPUTS, store, print):
        log(store.workspace(IDENTITY), 2)
    # the first row is recorded again with the same time: MLflow keeps one
    assert {(value.step, value.ms) for value in recorded(tmp_path)} == {(1, 1000), (2, 2000)}
    last = outbox(tmp_path).events()[-1]
    assert isinstance(last, RunEnd) and last.status == "FINISHED"


def test_a_repeated_iteration_counts_once_and_half_a_line_does_not(tmp_path: Path) -> None:
    log(tmp_path, 1, 2, 2)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"iteration": 3, "rew')
    assert [row["iteration"] for row in read_log(tmp_path)] == [1, 2]
