"""Progress events as lines of a file: any process of a study appends, the foreground prints.

A file is used because the workers of a study are other processes, possibly on other nodes, and
share only the output folder. A single `write` of a short line is atomic for local appends.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from forkdiv.core.config.study import StudyConfig


@dataclass(frozen=True)
class Event:
    """One line of the file: `time` in seconds since the epoch, `who` is the trial or stage, and
    `finished` is True if the message reports the end of that work."""

    time: float
    who: str
    message: str
    finished: bool = False


@dataclass(frozen=True)
class Progress:
    """Appends events to `path`; `who` names the trial or stage that reports them. `measured` takes
    numbers that describe the work at this moment, by name."""

    path: Path
    who: str = "study"
    measured: Callable[[Mapping[str, float]], None] = lambda numbers: None

    def __call__(self, message: str, finished: bool = False) -> None:
        line = json.dumps(asdict(Event(round(time.time(), 2), self.who, message, finished)))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def measuring(self, measured: Callable[[Mapping[str, float]], None]) -> Progress:
        """Returns the same progress with another receiver of numbers."""
        return replace(self, measured=measured)


class Pace:
    """Progress, rate and remaining time of a task with a known number of items."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._started = self._last_report = clock()

    @property
    def seconds_since_report(self) -> float:
        """Seconds since the last call of `report`."""
        return self._clock() - self._last_report

    def rate(self, completed: int) -> float:
        """Returns items per second."""
        return completed / max(self._clock() - self._started, 1e-9)

    def report(self, completed: int) -> str:
        """Returns a text such as `512/2048, 430 per second, 4 s left`."""
        self._last_report = self._clock()
        elapsed = self._last_report - self._started
        if not completed or elapsed <= 0:
            return f"{completed}/{self._total}"
        rate = completed / elapsed
        remaining = self._total - completed
        left = f", {duration(remaining / rate)} left" if remaining > 0 else ""
        shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        return f"{completed}/{self._total}, {shown} per second{left}"


def duration(seconds: float) -> str:
    """Returns a duration in its two largest units: `4 s`, `2 min 30 s`, `3 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Follower:
    """Shows lines that are added to a progress file while the `with` block runs, and passes their
    events to `watch`."""

    def __init__(
        self,
        path: Path,
        show: Callable[[str], None],
        every: float = 0.5,
        watch: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._path, self._show, self._every, self._watch = path, show, every, watch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="progress")

    def __enter__(self) -> Follower:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._position = os.path.getsize(self._path)  # skip the lines of earlier runs
        self._began = time.time()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._drain()

    def _follow(self) -> None:
        while not self._stop.wait(self._every):
            self._drain()

    def _drain(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._position)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # still being written
                self._position += len(raw)
                try:
                    event = Event(**json.loads(raw))
                except ValueError:
                    continue  # incomplete: its writer was killed in the middle of the line
                seconds = max(int(event.time - self._began), 0)
                self._show(f"{seconds // 60:3d}:{seconds % 60:02d}  {event.who}: {event.message}")
                self._watch(event)


@contextmanager
def progress_shown(
    study: StudyConfig,
    who: str,
    show: Callable[[str], None],
    watch: Callable[[Event], None] = lambda event: None,
) -> Iterator[Progress]:
    """Yields the study's progress and shows its events while the block runs; `who` names the
    events reported through it."""
    progress = Progress(study.folder / "progress.jsonl", who)
    with Follower(progress.path, show, watch=watch):
        yield progress
