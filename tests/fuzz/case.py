"""One case: a damaged input, how it is read, and what must hold."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from forkdiv.core.errors import InvalidResult, UserError

SLOWEST_S = 10.0  # silence
BLOCKED_S = 0.3  # a reader that used less than this of the CPU in that time waits for something
LOADED = 6  # times longer may a reader take on a loaded machine
LONGEST_MESSAGE = 2000  # characters
MEMORY = 1.2 * 2**30  # bytes that one case may add to the peak
ACCEPTED, REFUSED = "accepted", "refused"


class TooSlow(BaseException):
    """A reader took too long. Not an Exception: no handler of one may hide it."""


@dataclass(frozen=True)
class Case:
    """`damage` says what was done. `read` reads the input; `wrong` says what is wrong with what it
    returned, or None."""

    target: str
    damage: str
    read: Callable[[], Any]
    wrong: Callable[[Any], str | None] = lambda value: None


@dataclass
class Tally:
    """The outcomes by target, and the finds, each with the command that shows it again."""

    outcomes: Counter[str] = field(default_factory=Counter)
    finds: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    last: str = ""  # the find of the last case

    def add(self, target: str, outcome: str, find: str, seconds: float, again: str) -> None:
        self.outcomes[f"{target} {outcome}"] += 1
        self.slowest = max(self.slowest, (round(seconds, 2), again))
        self.last = f"{target}: {find}\n    {again}" if find else ""
        if find:
            self.finds.append(self.last)

    def report(self) -> str:
        lines = [f"{count:7,} {name}" for name, count in sorted(self.outcomes.items())]
        lines.append(f"slowest: {self.slowest[0]} s: {self.slowest[1]}")
        return "\n".join([*lines, f"{len(self.finds)} finds", *self.finds])


def run(case: Case) -> tuple[str, str]:
    """Returns the outcome and, if something does not hold, what."""
    before = peak()
    try:
        with limit(SLOWEST_S):
            value = case.read()
    except (UserError, InvalidResult) as error:
        outcome, find = REFUSED, wrong_message(str(error))
    except TooSlow:
        outcome, find = "too slow", f"more than {SLOWEST_S:g} s"
    except Exception as error:
        outcome, find = "untyped", f"{type(error).__name__}: {_where(error)}: {error!s:.200}"
    else:
        outcome, find = ACCEPTED, case.wrong(value) or ""
        if find:
            outcome = "wrong"
    if not find and peak() - before > MEMORY:
        outcome, find = "memory", f"{(peak() - before) / 2**30:.1f} GiB more at the peak"
    return outcome, f"{find} ({case.damage:.300})" if find else ""


def wrong_message(text: str) -> str:
    """Returns what is wrong with a message to a user, or an empty text."""
    if len(text) > LONGEST_MESSAGE:
        return f"a message of {len(text)} characters: {text[:120]!r}"
    if "Traceback (most recent" in text:
        return f"a traceback in a message: {text[:120]!r}"
    return "" if text.strip() else "an empty message"


def peak() -> int:
    """Returns the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises TooSlow if the block needs more of the CPU, or if it waits so long for something (in
    the main thread, between Python operations)."""
    began = time.process_time()
    rings = 0

    def expired(*_: object) -> None:
        nonlocal rings
        rings += 1
        used = time.process_time() - began
        is_blocked = used < BLOCKED_S * rings and os.getloadavg()[0] < 2 * (os.cpu_count() or 1)
        if used > seconds or is_blocked or rings >= LOADED:
            raise TooSlow

    previous = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _where(error: BaseException) -> str:
    frame = error.__traceback__
    place = ""
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if any(f"/{room}/" in name for room in ("forkdiv", "jobs", "tuning")):
            place = f"{name.rpartition('/')[2]}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place or "outside forkdiv"
