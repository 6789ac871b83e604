"""Progress: lines of many writers arrive whole, in order, and each is shown once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from forkdiv.core.progress import Follower, Pace, Progress, duration

WRITER = """
import sys
from pathlib import Path
import pytest

from forkdiv.core.progress import Follower, Pace, Progress, duration

progress = Progress(Path(sys.argv[1]), sys.argv[2])
for i in range(2000):
    progress(f"{i} " + "x" * 200)
"""


def spoken(path: Path) -> list[tuple[str, str]]:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [(event["who"], event["message"]) for event in events]


def follow(path: Path, lines: list[str]) -> Follower:
    return Follower(path, lines.append, every=0.01)


def test_a_line_names_the_reporter(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "new" / "progress.jsonl")
    progress("begins")
    Progress(progress.path, "density=0 T=1")("trains")
    assert spoken(progress.path) == [("study", "begins"), ("density=0 T=1", "trains")]


def test_a_message_of_several_lines_stays_one_event(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.jsonl")
    progress('one\ntwo "three" é')
    assert spoken(progress.path) == [("study", 'one\ntwo "three" é')]


def test_lines_of_several_processes_arrive_whole_and_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    root = str(Path(__file__).parents[2])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), who], env={**os.environ, "PYTHONPATH": root}
        )
        for who in "abc"
    ]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    events = spoken(path)
    assert Counter(who for who, _ in events) == {"a": 2000, "b": 2000, "c": 2000}
    for who in "abc":
        order = [int(message.split()[0]) for speaker, message in events if speaker == who]
        assert order == list(range(2000))


def test_a_follower_shows_what_comes_once_and_nothing_of_earlier_runs(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.jsonl", "trial")
    progress("an earlier run")
    lines: list[str] = []
    with follow(progress.path, lines):
        for i in range(20):
            progress(f"step {i}")
    assert [line.split(maxsplit=1)[1] for line in lines] == [f"trial: step {i}" for i in range(20)]
    assert all(line.strip().startswith("0:00") for line in lines)


def test_the_last_line_before_the_end_is_shown(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.jsonl")
    lines: list[str] = []
    with Follower(progress.path, lines.append, every=60):
        progress("done")
    assert [line.split(maxsplit=1)[1] for line in lines] == ["study: done"]


def test_a_follower_waits_for_a_line_that_is_half_written(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.jsonl")
    progress("whole")
    line = progress.path.read_bytes()
    lines: list[str] = []
    with follow(progress.path, lines):
        with progress.path.open("ab", buffering=0) as file:
            file.write(line[:20])
            follower = follow(progress.path, [])
            with follower:  # a second one, of a file that ends within a line, does not fall over
                pass
            file.write(line[20:])
    assert [shown.split(maxsplit=1)[1] for shown in lines] == ["study: whole"]


def test_a_follower_creates_the_file_it_follows(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "progress.jsonl"
    lines: list[str] = []
    with follow(path, lines):
        Progress(path)("first")
    assert len(lines) == 1


def test_an_error_in_the_block_is_not_swallowed_and_its_last_words_are_shown(
    tmp_path: Path,
) -> None:
    progress = Progress(tmp_path / "progress.jsonl")
    lines: list[str] = []
    try:
        with follow(progress.path, lines):
            progress("last words")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert len(lines) == 1
    else:
        raise AssertionError("the interrupt was swallowed")


def test_a_pace_says_how_fast_and_how_long() -> None:
    now = iter([0.0, 10.0, 10.0, 20.0, 100.0])
    pace = Pace(1000, clock=lambda: next(now))
    assert pace.report(100) == "100/1000, 10 per second, 1 min 30 s left"
    assert pace.seconds_since_report == 0.0
    assert pace.report(0) == "0/1000"
    assert pace.report(1000) == "1000/1000, 10 per second"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3.6, "4 s"), (59.7, "1 min 0 s"), (150, "2 min 30 s"), (11100, "3 h 5 min")],
)
def test_durations_use_their_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said
