"""The live line of a sweep says which trial runs, what it does and how long the rest takes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from forkdiv.core.progress import Event, Follower, Progress
from tests.stack import ROOT
from tuning.live import LiveSweep
from tuning.space import Point

BASE = [Point(t, 0, tuned=False) for t in (0.7, 1.0)]
TUNED = [Point(t, 0, settings=(("fork_density", d),)) for d in (0.0, 1.0) for t in (0.7, 1.0)]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def sweep(clock: Clock, at_once: int = 1) -> LiveSweep:
    return LiveSweep([*BASE, *TUNED], at_once, clock)


def run_trial(live: LiveSweep, clock: Clock, name: str, seconds: float) -> None:
    live.event(Event(clock.now, name, "starts"))
    clock.now += seconds
    live.event(Event(clock.now, name, "done", finished=True))


def test_before_the_first_trial_the_line_has_the_number_of_trials_and_the_progress() -> None:
    live = sweep(Clock())
    live.event(Event(1000.0, "study", "starting Ray"))
    assert live.text() == "6 trials scheduled · study: starting Ray"


def test_it_names_the_trial_its_number_and_what_it_does() -> None:
    clock = Clock()
    live = sweep(clock)
    run_trial(live, clock, BASE[0].name, 10)
    live.event(Event(clock.now, BASE[1].name, "sampling: 8/64, 4 per second"))
    assert live.text() == "trial 2 of 6 · base T=1: sampling: 8/64, 4 per second"


def test_trials_that_were_kept_count_as_done_and_take_no_time() -> None:
    clock = Clock()
    live = LiveSweep([*BASE, *TUNED], 1, clock, kept=[point.name for point in (*BASE, *TUNED[:2])])
    live.event(Event(clock.now, TUNED[2].name, "fine-tuning: step 1/8"))
    assert live.text() == f"trial 5 of 6 · {TUNED[2].name}: fine-tuning: step 1/8"
    run_trial(live, clock, TUNED[2].name, 100)
    assert live.seconds_left() is None, "no trial that only samples has finished"
    run_trial(live, clock, TUNED[3].name, 10)
    assert live.seconds_left() == 0


def test_the_remaining_time_uses_separate_means_for_trials_that_train() -> None:
    clock = Clock()
    live = sweep(clock)
    for point in BASE:
        run_trial(live, clock, point.name, 10)
    assert live.seconds_left() is None, "no trial that trains has finished"
    run_trial(live, clock, TUNED[0].name, 100)
    # one that samples, one that trains, one that samples
    assert live.seconds_left() == pytest.approx(10 + 100 + 10)
    live.event(Event(clock.now, TUNED[1].name, "starts"))
    clock.now += 4
    assert live.seconds_left() == pytest.approx(6 + 100 + 10)
    assert "trial 4 of 6, about 1 min 56 s left" in live.text()


def test_trials_that_a_search_chooses_are_counted_as_they_start() -> None:
    clock = Clock()
    live = LiveSweep([*BASE, *TUNED], 1, clock, is_open=True)
    live.event(Event(1000.0, "study", "starting Ray"))
    assert live.text() == "6 trials scheduled · study: starting Ray"
    run_trial(live, clock, "learning_rate=0.1 T=1", 100)
    assert live.seconds_left() == pytest.approx(5 * 100)
    live.event(Event(clock.now, "learning_rate=0.2 T=1", "starts"))
    assert live.text().startswith("trial 2 of 6, about ")
    for rate in (0.2, 0.3, 0.4):
        run_trial(live, clock, f"learning_rate={rate} T=1", 100)
    live.event(Event(clock.now, "base T=1", "starts"))
    assert live.text().startswith("trial 5 of 6")


def test_trials_at_once_share_the_time() -> None:
    clock = Clock()
    live = sweep(clock, at_once=2)
    run_trial(live, clock, BASE[0].name, 10)
    run_trial(live, clock, TUNED[0].name, 40)
    assert live.seconds_left() == pytest.approx((10 + 10 + 40 + 10) / 2)


def test_when_all_are_done_nothing_is_left() -> None:
    clock = Clock()
    live = sweep(clock)
    for point in (*BASE, *TUNED):
        run_trial(live, clock, point.name, 5)
    assert live.seconds_left() == 0
    assert live.text().startswith("trial 6 of 6")


def test_the_events_of_a_progress_file_reach_it(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.jsonl", BASE[0].name)
    live, shown = sweep(Clock()), list[str]()
    with Follower(progress.path, shown.append, every=0.01, watch=live.event):
        progress("samples")
        progress("done", finished=True)
    assert len(shown) == 2
    assert live.text().startswith("trial 2 of 6")


CODE = """
import time
from forkdiv.core.progress import Event
from forkdiv.terminal import say
from tuning.live import LiveSweep
from tuning.space import Point
with LiveSweep([Point(1.0, 0, tuned=False)], 1) as live:
    live.event(Event(time.time(), "base T=1", "sampling " + "very " * 40 + "long"))
    time.sleep(0.8)
    say("a line above")
"""


def test_on_a_terminal_the_line_is_last_and_is_removed_at_the_end() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", CODE], cwd=ROOT, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        output = b""
        while block := _read(ours):
            output += block
    os.close(ours)
    assert process.returncode == 0
    text = output.decode()
    assert "trial 1 of 1" in text and "a line above" in text
    assert "long" not in text, "one line, cut to the terminal's width"
    assert text.rstrip().endswith("\x1b[?25h") or "\x1b[2K" in text, "the line is taken away"


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 4096)
    except OSError:  # Linux's end of a terminal whose other side is closed
        return b""


def test_where_output_goes_to_a_file_there_is_no_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a line above\n"
