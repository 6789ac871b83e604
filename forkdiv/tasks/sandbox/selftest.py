"""Tests that this machine enforces the limits of the sandbox.

Runs as a separate process: it attempts one forbidden action under one limit at a time, each in its
own child, and prints a JSON list of actions that were not stopped as expected. An action that
could also fail for other reasons must succeed without the limit.
"""

from __future__ import annotations

import _socket
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from forkdiv.tasks.sandbox import confinement
from forkdiv.tasks.sandbox.confinement import MIB
from forkdiv.tasks.sandbox.forkserver import plain_signals

Act = Callable[[], object]

DONE = "done"
TIMER_S, ACT_S = 0.02, 1.0
KILLED = f"signal {signal.SIGSYS.value}"


@dataclass(frozen=True, slots=True)
class Trial:
    """An action that must end as `ends` under a limit and, with `control`, succeed without it."""

    what: str
    limit: Callable[[], None]
    act: Act
    ends: str
    control: bool = False


def run_selftest() -> None:
    plain_signals()
    confinement.machine()
    with tempfile.TemporaryDirectory() as folder:
        gaps = [gap for trial in trials(Path(folder)) if (gap := missing(trial))]
        sys.stdout.write(json.dumps(gaps))


def trials(folder: Path) -> Iterator[Trial]:
    existing, new = folder / "existing", folder / "new"
    existing.touch()
    file = os.open(existing, os.O_WRONLY)
    timer, cpu = partial(confinement.limit_time, 60.0, TIMER_S), partial(burn, ACT_S)
    yield Trial("sleeping forever", timer, partial(time.sleep, ACT_S), _signal("SIGALRM"))
    timer = partial(confinement.limit_time, TIMER_S, 60.0)
    yield Trial("computing forever", timer, cpu, _signal("SIGPROF"))

    limits = partial(confinement.limit_resources, MIB, 1.0)
    allocate = partial(bytearray, 64 * MIB)
    yield Trial("allocating memory", limits, allocate, "MemoryError", control=True)
    yield Trial("opening more descriptors", limits, partial(os.dup, 0), "OSError 24", control=True)
    yield Trial("filling the disk", limits, partial(os.write, file, b"."), _signal("SIGXFSZ"))

    paths: dict[str, Act] = {
        "reading files": partial(os.open, existing, os.O_RDONLY),
        "listing folders": partial(os.listdir, folder),
        "creating files": partial(os.open, new, os.O_WRONLY | os.O_CREAT),
        "changing files": partial(os.open, existing, os.O_WRONLY | os.O_TRUNC),
        "deleting files": partial(os.unlink, existing),
    }
    for what, act in paths.items():
        yield Trial(what, landlock, act, "PermissionError 13", control=True)

    calls = partial(confinement.filter_calls, MIB)
    trapped = f"status {confinement.OUT_OF_MEMORY}"
    yield Trial("allocating too much memory at once", calls, allocate, trapped, control=True)
    contacts: dict[str, Act] = {
        "forking": os.fork,
        "starting programs": partial(os.execv, sys.executable, [sys.executable, "-c", ""]),
        "using the network": partial(_socket.socket, _socket.AF_INET, _socket.SOCK_STREAM),
        "using local sockets": partial(_socket.socket, _socket.AF_UNIX, _socket.SOCK_STREAM),
        "sending signals": partial(os.kill, os.getpid(), 0),
        "opening files": partial(os.open, os.devnull, os.O_RDONLY),
        "raising limits": partial(resource.setrlimit, resource.RLIMIT_CORE, (0, 0)),
        "stopping the timer": partial(signal.setitimer, signal.ITIMER_REAL, 0),
        "exiting early": partial(os._exit, 0),
    }
    for what, act in contacts.items():
        yield Trial(what, calls, act, KILLED)


def landlock() -> None:
    confinement.close_files(confinement.create_ruleset())


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def missing(trial: Trial) -> str | None:
    """Returns the action that the machine does not stop, with its result; None if it does."""
    ended = attempt(trial.limit, trial.act)
    if ended != trial.ends:
        return f"{trial.what} (ended with {ended} instead of {trial.ends})"
    if trial.control and (without := attempt(lambda: None, trial.act)) != DONE:
        return f"{trial.what} (cannot be tested, fails without the limit: {without})"
    return None


def attempt(limit: Callable[[], None], act: Act) -> str:
    """Returns how an action ends in a child under a limit: `done`, an exception, a signal or a
    status."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            limit()
            act()
            os.write(write_end, DONE.encode())
        except BaseException as error:  # noqa: BLE001 - every exception is reported
            number = f" {error.errno}" if isinstance(error, OSError) else ""
            os.write(write_end, f"{type(error).__name__}{number}".encode())
        finally:
            os._exit(1)
    os.close(write_end)
    status = os.waitpid(child, 0)[1]
    text = os.read(read_end, 1000).decode()
    os.close(read_end)
    code = os.waitstatus_to_exitcode(status)
    return text or (f"signal {-code}" if code < 0 else f"status {code}")


def _signal(name: str) -> str:
    return f"signal {signal.Signals[name].value}"
