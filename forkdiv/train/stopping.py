"""Ends a trial from another thread, while it trains or samples."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TrialStopped(Exception):
    """The trial was asked to stop. What it has trained and measured is kept."""


class Stopping:
    """A request to stop, which one thread makes and the thread of the work follows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._abort: Callable[[], None] | None = None
        self.is_requested = False

    def request(self) -> None:
        """Asks the work to stop, and aborts a training run that is running."""
        with self._lock:
            self.is_requested = True
            if self._abort:
                self._abort()

    def check(self) -> None:
        """Raises TrialStopped if the work was asked to stop."""
        if self.is_requested:
            raise TrialStopped

    @contextmanager
    def aborting(self, abort: Callable[[], None]) -> Iterator[None]:
        """Calls `abort` if a stop is requested within the block; what the block raises because of
        it becomes TrialStopped."""
        with self._lock:
            self.check()
            self._abort = abort
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._abort = None
