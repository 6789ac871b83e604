"""Proof by trial that this machine holds the walls of the sandbox.

Run as a throw-away process, it tries one forbidden act behind one wall at a time, each in a
child of its own, and prints a JSON list of what was not stopped as it should be. Where an act
could also fail for want of something else, it must succeed without the wall.
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
    """An act that must end as `ends` behind a wall and, with `control`, be done without it."""

    what: str
    wall: Callable[[], None]
    act: Act
    ends: str
    control: bool = False


def prove() -> None:
    plain_signals()
    confinement.machine()
    with tempfile.TemporaryDirectory() as folder:
        gaps = [gap for trial in trials(Path(folder)) if (gap := missing(trial))]
        sys.stdout.write(json.dumps(gaps))


def trials(folder: Path) -> Iterator[Trial]:
    kept, new = folder / "kept", folder / "new"
    kept.touch()
    file = os.open(kept, os.O_WRONLY)
    timer, cpu = partial(confinement.limit_time, 60.0, TIMER_S), partial(burn, ACT_S)
    yield Trial("sleeping for ever", timer, partial(time.sleep, ACT_S), _signal("SIGALRM"))
    timer = partial(confinement.limit_time, TIMER_S, 60.0)
    yield Trial("computing for ever", timer, cpu, _signal("SIGPROF"))

    limits = partial(confinement.limit_resources, MIB, 1.0)
    allocate = partial(bytearray, 64 * MIB)
    yield Trial("taking memory", limits, allocate, "MemoryError", control=True)
    yield Trial("opening more descriptors", limits, partial(os.dup, 0), "OSError 24", control=True)
    yield Trial("filling the disk", limits, partial(os.write, file, b"."), _signal("SIGXFSZ"))

    paths: dict[str, Act] = {
        "reading files": partial(os.open, kept, os.O_RDONLY),
        "listing folders": partial(os.listdir, folder),
        "making files": partial(os.open, new, os.O_WRONLY | os.O_CREAT),
        "changing files": partial(os.open, kept, os.O_WRONLY | os.O_TRUNC),
        "deleting files": partial(os.unlink, kept),
    }
    for what, act in paths.items():
        yield Trial(what, landlock, act, "PermissionError 13", control=True)

    calls = partial(confinement.filter_calls, MIB)
    trapped = f"status {confinement.OUT_OF_MEMORY}"
    yield Trial("taking memory at once", calls, allocate, trapped, control=True)
    contacts: dict[str, Act] = {
        "forking": os.fork,
        "starting programs": partial(os.execv, sys.executable, [sys.executable, "-c", ""]),
        "using the network": partial(_socket.socket, _socket.AF_INET, _socket.SOCK_STREAM),
        "using local sockets": partial(_socket.socket, _socket.AF_UNIX, _socket.SOCK_STREAM),
        "signalling processes": partial(os.kill, os.getpid(), 0),
        "opening files": partial(os.open, os.devnull, os.O_RDONLY),
        "lifting limits": partial(resource.setrlimit, resource.RLIMIT_CORE, (0, 0)),
        "stopping the clock": partial(signal.setitimer, signal.ITIMER_REAL, 0),
        "leaving early": partial(os._exit, 0),
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
    """What the machine fails to stop, and what came of the act instead."""
    ended = attempt(trial.wall, trial.act)
    if ended != trial.ends:
        return f"{trial.what} (ended with {ended} instead of {trial.ends})"
    if trial.control and (free := attempt(lambda: None, trial.act)) != DONE:
        return f"{trial.what} (cannot be tried: {free})"
    return None


def attempt(wall: Callable[[], None], act: Act) -> str:
    """How an act ends in a child behind a wall: `done`, an exception, a signal or a status."""
    told, to_tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            wall()
            act()
            os.write(to_tell, DONE.encode())
        except BaseException as error:  # noqa: BLE001 - all of it goes into the report
            number = f" {error.errno}" if isinstance(error, OSError) else ""
            os.write(to_tell, f"{type(error).__name__}{number}".encode())
        finally:
            os._exit(1)
    os.close(to_tell)
    status = os.waitpid(child, 0)[1]
    text = os.read(told, 1000).decode()
    os.close(told)
    code = os.waitstatus_to_exitcode(status)
    return text or (f"signal {-code}" if code < 0 else f"status {code}")


def _signal(name: str) -> str:
    return f"signal {signal.Signals[name].value}"
