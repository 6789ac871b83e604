"""The live status line of a sweep: the current trial, its progress, and the remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack

from forkdiv.core.progress import Event, duration
from forkdiv.terminal import live_line
from tuning.space import Point

STUDY = "study"  # who reports the work before and after the trials


class LiveSweep:
    """Follows the events of a sweep's trials. In its `with` block, a terminal shows `text` as its
    last line."""

    def __init__(
        self,
        grid: Sequence[Point],
        at_once: int,
        clock: Callable[[], float] = time.time,
        kept: Collection[str] = (),
        is_open: bool = False,
    ) -> None:
        """`kept` are the names of trials that an earlier run of the study has finished. If the
        study `is_open`, its trials are not known before they start, and `grid` has as many."""
        self._trains = {} if is_open else _trials_that_train(grid)
        self._total, self._is_open = len(grid), is_open
        self._kept = frozenset(kept)
        self._at_once, self._clock = at_once, clock
        self._began: dict[str, float] = {}  # trial -> time of its first event
        self._took: dict[str, float] = {}  # finished trial -> its seconds
        self._latest = ""
        self._stack = ExitStack()

    def __enter__(self) -> LiveSweep:
        self._stack.enter_context(live_line(self.text))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def event(self, event: Event) -> None:
        """Records an event. Events without a trial describe the work before the trials."""
        if self._is_open and event.who != STUDY:
            self._trains.setdefault(event.who, not event.who.startswith("base"))
        if event.who in self._trains:
            self._began.setdefault(event.who, event.time)
            if event.finished:
                self._took[event.who] = event.time - self._began[event.who]
        self._latest = f"{event.who}: {event.message}"

    def text(self) -> str:
        """`trial 4 of 12, about 6 min 20 s left · density=0.5 T=1: sampling: 512/2048, …`"""
        done, total = len(self._took) + len(self._kept), self._total
        if not self._began:
            return f"{total} trials scheduled · {self._latest}"
        left = self.seconds_left()
        about = f", about {duration(left)} left" if left is not None else ""
        return f"trial {min(done + 1, total)} of {total}{about} · {self._latest}"

    def seconds_left(self) -> float | None:
        """Estimates the remaining seconds from the mean time of finished trials, separately for
        trials that train and trials that only sample. None if trials of a kind remain and none of
        that kind has finished."""
        means = {}
        for trains in (True, False):
            took = [t for name, t in self._took.items() if self._trains[name] is trains]
            means[trains] = sum(took) / len(took) if took else None
        left = 0.0
        for name, trains in self._trains.items():
            if name in self._took or name in self._kept:
                continue
            mean = means[trains]
            if mean is None:
                return None
            elapsed = self._clock() - self._began[name] if name in self._began else 0.0
            left += max(mean - elapsed, 0.0)
        if (unknown := self._total - len(self._trains)) > 0:  # trials of an open search
            mean = means[True]
            if mean is None:
                return None
            left += unknown * mean
        return left / self._at_once


def _trials_that_train(grid: Sequence[Point]) -> dict[str, bool]:
    """Returns by trial name, in order, whether the trial is the first of a tuned model. The first
    trains the model; the others reuse its checkpoint."""
    trained: set[tuple[object, ...]] = set()
    trains = {}
    for point in grid:
        trains[point.name] = point.tuned and point.trained_as not in trained
        trained.add(point.trained_as)
    return trains
