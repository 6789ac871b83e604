"""Progress of sampling between finished problems: with a real model, the first can take minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from forkdiv.core.progress import Progress, duration

EVERY_S = 5.0
Result = TypeVar("Result")


class CountsTokens(Protocol):
    """A sampler; see `SamplerClient`."""

    def tokens_drawn(self) -> int | None: ...


class SamplingPulse:
    """Reports tokens drawn, tokens per second and the time left while nothing else is reported for
    `every_s` seconds. `total` samples of at most `most_tokens` tokens are drawn."""

    def __init__(
        self,
        sampler: CountsTokens,
        progress: Progress,
        total: int,
        most_tokens: int,
        every_s: float = EVERY_S,
    ) -> None:
        self._sampler, self._progress = sampler, progress
        self._total, self._most, self._every = total, most_tokens, every_s
        self._done = 0
        self._last = time.monotonic()
        self._over = threading.Event()

    def during(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yields the results; reports in a thread until the last."""
        thread = threading.Thread(target=self._run, name="sampling-pulse", daemon=True)
        thread.start()
        try:
            yield from results
        finally:
            self._over.set()
            thread.join()

    def finished(self, samples: int) -> None:
        """Counts finished samples."""
        self._done += samples

    def reported(self) -> None:
        """The caller has just reported progress itself: the next report is due later."""
        self._last = time.monotonic()

    def _run(self) -> None:
        before, since = self._sampler.tokens_drawn(), time.monotonic()
        while not self._over.wait(self._every / 5):
            if time.monotonic() - self._last < self._every:
                continue
            drawn, now = self._sampler.tokens_drawn(), time.monotonic()
            if drawn is None or self._over.is_set():
                continue
            if before is None or drawn < before:  # the engine was not ready, or was replaced
                before, since = drawn, now
                continue
            self._last = now
            if drawn > before:
                self._progress(self._text(drawn - before, now - since))
                self._progress.measured({"sample/tokens_per_s": (drawn - before) / (now - since)})

    def _text(self, tokens: int, seconds: float) -> str:
        rate = tokens / seconds
        left = self._total - self._done
        # before the first sample ends, its length is not known
        each = tokens / self._done if self._done else self._most
        bound = "" if self._done else "at most "
        remaining = max(left * each - (0 if self._done else tokens), 0) / rate
        return (
            f"sampling: {self._done}/{self._total}, {tokens:,} tokens drawn, "
            f"{rate:,.0f} tokens per second, {bound}{duration(remaining)} left"
        )
