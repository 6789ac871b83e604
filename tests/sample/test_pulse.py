"""Progress of sampling while no problem is finished."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from forkdiv.core.progress import Progress
from forkdiv.sample.pulse import SamplingPulse


class Counting:
    """An engine that draws 1,000 tokens a second after its start."""

    def __init__(self, ready_after: float = 0.0) -> None:
        self._started = time.monotonic() + ready_after

    def tokens_drawn(self) -> int | None:
        seconds = time.monotonic() - self._started
        return None if seconds < 0 else int(1000 * seconds)


def lines(folder: Path, sampler: Counting, results: Iterator[int], total: int = 8) -> list[str]:
    progress = Progress(folder / "progress.jsonl")
    progress("start")
    pulse = SamplingPulse(sampler, progress, total, 100, every_s=0.1)
    for samples in pulse.during(results):
        pulse.finished(samples)
    return progress.path.read_text().splitlines()[1:]


def slow(seconds: float, *samples: int) -> Iterator[int]:
    for number in samples:
        time.sleep(seconds)
        yield number


def test_before_the_first_sample_ends_tokens_and_a_bound_of_the_time_are_shown(
    tmp_path: Path,
) -> None:
    first = lines(tmp_path, Counting(), slow(0.5, 8))[0]
    found = re.search(
        r"sampling: 0/8, (\d+) tokens drawn, ([\d,]+) tokens per second, at most \d+ s left", first
    )
    assert found, first
    assert 50 <= int(found[1]) <= 400 and 800 <= int(found[2].replace(",", "")) <= 1200


def test_then_the_time_left_follows_from_the_samples_so_far(tmp_path: Path) -> None:
    shown = lines(tmp_path, Counting(), slow(0.4, 4, 4))
    assert any("sampling: 4/8" in line and "at most" not in line for line in shown)


def test_an_engine_that_is_not_ready_is_waited_for(tmp_path: Path) -> None:
    shown = lines(tmp_path, Counting(ready_after=0.3), slow(0.8, 8))
    assert shown
    rates = [int(re.search(r"([\d,]+) tokens per s", s)[1].replace(",", "")) for s in shown]  # type: ignore[index]
    assert all(700 <= rate <= 1300 for rate in rates), "the wait does not count"


def test_fast_sampling_reports_nothing_more(tmp_path: Path) -> None:
    def fast() -> Iterator[int]:
        for i in count():
            if i == 8:
                return
            yield 1

    assert lines(tmp_path, Counting(), fast()) == []
