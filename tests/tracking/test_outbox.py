"""The files of events: complete events only, whatever kills their writer."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from pathlib import Path

from forkdiv.tracking.events import Event, Metrics, RunEnd, RunStart, Tags, Value
from forkdiv.tracking.outbox import Outbox, read

START = RunStart(key="k", experiment="e", name="n", started_ms=1, params={"a": "1"})


def metrics(step: int) -> Metrics:
    return Metrics(values=(Value("loss", 0.5, 1000 + step, step),))


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "new" / "a.jsonl")
    odd = Metrics(values=(Value("naïve/π", math.inf, 1, 2), Value("x", -0.0, 3, 4)))
    events: list[Event] = [START, odd, Tags(tags={"k": "two\nlines \u2028"})]
    outbox.add(*events[:1])
    outbox.add(*events[1:])
    assert outbox.events() == events
    nan = Metrics(values=(Value("x", math.nan, 1),))
    outbox.add(nan)
    last = outbox.events()[-1]
    assert isinstance(last, Metrics) and math.isnan(last.values[0].value)


def test_half_a_line_of_a_killed_writer_is_skipped_and_the_next_event_is_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.jsonl"
    Outbox(path).add(START)
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole + whole[:cut])
        assert Outbox(path).events() == [START]  # the half line may still be being written
        Outbox(path).add(metrics(1))
        assert [type(event) for event in Outbox(path).events()] == [RunStart, Metrics]


def test_positions_lead_to_what_was_not_read(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.jsonl")
    outbox.add(START, metrics(1))
    position = [after for _, after in read(outbox.path, 0)][-1]
    assert position == outbox.path.stat().st_size
    outbox.add(metrics(2))
    assert [event for event, _ in read(outbox.path, position)] == outbox.events()[2:]


def test_a_run_is_finished_by_its_last_end(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.jsonl")
    assert not outbox.is_finished
    outbox.add(START, RunEnd(status="FAILED", ended_ms=2))
    assert not outbox.is_finished
    outbox.add(START, RunEnd(status="FINISHED", ended_ms=3))
    assert outbox.is_finished


def test_threads_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.jsonl")

    def add(first: int) -> None:
        for step in range(first, first + 20):
            outbox.add(metrics(step))

    threads = [threading.Thread(target=add, args=(first,)) for first in range(0, 100, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = [event.values[0].step for event in outbox.events() if isinstance(event, Metrics)]
    assert sorted(steps) == list(range(100))


def test_recording_needs_no_mlflow() -> None:
    code = (
        "import sys, forkdiv.tracking.outbox, forkdiv.tracking.sending, tuning.study_record\n"
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
