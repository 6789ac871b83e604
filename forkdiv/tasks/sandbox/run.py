"""Run Python programs that a model wrote, behind limits that the kernel enforces.

    with Sandbox(Limits(cpu_s=2.0)) as sandbox:
        ran = sandbox.run("print(6 * 7)")   # Ran(outcome="ok", printed="42\\n", error="")

A program is run in a process of its own, forked from one that has loaded the modules of
`MODULES` and nothing else. Before it starts, that process has given up, for good:

- files: no path can be opened, made, changed or removed (Landlock and seccomp, each alone
  enough); asked about a path, the machine says there is none; it has not even a folder
- processes and signals: it cannot fork, start a program, or signal anyone, itself included
- the network, and every other way to another process but two pipes
- time (interval timers), memory (address space), descriptors, file size (rlimits)
- standard input (empty), the environment, and its caller's descriptors

What it printed is its answer. `ok` and `raised` tell of answers: a program that ends with an
exception of its own is what the model wrote. Every other outcome is a limit that was hit or a
wall that was run into, and such a run is neither right nor wrong. A wall is noticed also where
the program catches what it is told: the kernel kills it there and then. To import what this
Python has but `MODULES` has not is such a wall; what it has not either is an ImportError.

Runs are alike: same hash seed, same random numbers, same clock zone, no trace of runs before.
What they may differ in is speed, and so whether they reach a limit of time.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from forkdiv.core.errors import refuse
from forkdiv.tasks.sandbox import confinement
from forkdiv.tasks.sandbox.child import OFFERED, Bounds

MODULES = OFFERED
# -s -S -P with an environment of our own is -I, but hears the hash seed. The zone is given
# since C would open a file to find it out.
PYTHON = (sys.executable, "-s", "-S", "-P", "-X", "utf8", "-c")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC0", "LC_ALL": "C"}
ENTRY = (
    "import sys; sys.path.append({!r});"
    " from forkdiv.tasks.sandbox.{} import {} as f; sys.path.pop(); f()"
)
ROOT = str(Path(__file__).parents[3])
PROOF_S = 60.0
LEAST_MEMORY_MIB = 64  # the C library's heap may grow by 32 MiB at once, unseen by the filter

# Solved by what a plain solution uses; its answer says that the walls leave that alone.
PLAIN = """
import datetime, decimal, fractions, itertools, json, math, random, re, statistics, time
class Point:
    def __init__(self, *at): self.at = at
table = {n: [math.comb(n, k) for k in range(n + 1)] for n in range(60)}
text = json.dumps(sorted(re.findall(r"[a-z]+", "the quick brown fox"), key=len))
big = math.factorial(500) % (10**9 + 7) + len(list(itertools.permutations(range(6))))
third = fractions.Fraction(1, 3) + decimal.Decimal("0.5").as_integer_ratio()[0]
time.sleep(0.001), time.time(), random.random(), statistics.mean([1, 2]), bytearray(2**22)
when = datetime.datetime.strptime("2020-02-29", "%Y-%m-%d").astimezone().date()
try: print(text, big, third, Point(1, 2).at, sum(table[59]), when, f"{1/7:.3f}", 1 / 0)
except ZeroDivisionError: pass
try: exec("x = (1")
except SyntaxError: print(6 * 7)
"""


class SandboxLost(Exception):
    """The sandbox itself failed, so there is no verdict on the program it was to run."""


class Ended(StrEnum):
    """How a run ended. Only the first two tell of an answer."""

    OK = "ok"
    RAISED = "raised"  # an exception of the program's own
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    DENIED = "denied"  # ran into a wall
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Limits:
    """For one run. `memory_mib` bounds the growth of address space, not only what is used.

    Raises UserError on construction for what cannot be enforced.
    """

    cpu_s: float = 5.0
    wall_s: float = 10.0
    memory_mib: int = 512
    output_kib: int = 64

    def __post_init__(self) -> None:
        least = {"cpu_s": 0.01, "wall_s": 0.01, "memory_mib": LEAST_MEMORY_MIB, "output_kib": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise refuse(f"{name} is no limit", value, f"{low} or more", f"set {name}")

    def bounds(self) -> Bounds:
        memory = self.memory_mib * confinement.MIB
        return Bounds(self.cpu_s, self.wall_s, memory, self.output_kib * 1024)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run. `printed` is the whole standard output; `error` says why, in the program's words
    if it raised and in ours otherwise."""

    outcome: Ended
    printed: str
    error: str

    @property
    def answered(self) -> bool:
        """Whether the run says anything about the program, not only about the limits."""
        return self.outcome in (Ended.OK, Ended.RAISED)


class Sandbox:
    """Runs programs one at a time; a context manager. Not for several threads at once.

    Raises UserError where this machine cannot enforce the limits, and SandboxLost from `run`
    where the sandbox itself fails; the run after that starts a new one.
    """

    def __init__(self, limits: Limits = Limits(), patience_s: float = 30.0) -> None:
        """`patience_s`: how much longer than `limits.wall_s` a reply may take."""
        if reason := unavailable():
            raise refuse(
                "this machine cannot confine the programs of a code task",
                reason,
                "Linux on x86_64 or aarch64 with seccomp and Landlock",
                "run code tasks on such a machine, or leave them out",
            )
        self._zygote = _Zygote(limits, patience_s)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, code: str) -> Ran:
        """Run a program and tell how it ended."""
        return self._zygote.run(code)

    def close(self) -> None:
        """End all processes of the sandbox."""
        self._zygote.stop()


@cache
def unavailable() -> str | None:
    """Why this machine cannot enforce the limits; None where every one held when tried.

    Tries each once per process, in throw-away processes; about half a second.
    """
    try:
        confinement.machine()
        gaps = _prove()
        if gaps:
            return "nothing stops a program from " + ", ".join(gaps)
        plain = _Zygote(Limits(), PROOF_S)
        try:
            ran = plain.run(PLAIN)
        finally:
            plain.stop()
    except (OSError, SandboxLost, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if ran.printed == "42\n" else f"its walls stop even a plain program: {ran}"


def _prove() -> list[str]:
    """What a throw-away process finds that the kernel does not stop."""
    command = [*PYTHON, ENTRY.format(ROOT, "selftest", "prove")]
    environment = {**ENVIRONMENT, "TMPDIR": tempfile.gettempdir()}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROOF_S,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise SandboxLost(f"the trial of its limits ended with {done.returncode}: {last}")
    gaps: list[str] = json.loads(done.stdout)
    return gaps


class _Zygote:
    """The process that forks a confined child for each program; started when first needed."""

    def __init__(self, limits: Limits, patience_s: float) -> None:
        self._bounds, self._seconds = limits.bounds(), limits.wall_s + patience_s
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, code: str) -> Ran:
        process = self._process or self._start()
        try:
            reply = _exchange(process, json.dumps(code).encode(), self._seconds)
            if "fault" in reply:
                raise SandboxLost(reply["fault"])
        except BaseException:  # with a reply still under way, the next one would be mistaken
            self.stop()
            raise
        return Ran(Ended(reply["outcome"]), reply["printed"], reply["error"])

    def _start(self) -> subprocess.Popen[bytes]:
        entry = ENTRY.format(ROOT, "forkserver", "serve")
        process = self._process = subprocess.Popen(
            [*PYTHON, entry, json.dumps(asdict(self._bounds))],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # what it forks can be ended with it
            bufsize=0,
        )
        assert process.stdin and process.stdout
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe
            pipe.close()


def _exchange(process: subprocess.Popen[bytes], body: bytes, seconds: float) -> Any:
    """Send one request and wait for its reply. Raises SandboxLost for none in time."""
    assert process.stdin and process.stdout
    reader, writer = process.stdout.fileno(), process.stdin.fileno()
    request, reply = struct.pack(">I", len(body)) + body, b""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        selector.register(writer, selectors.EVENT_WRITE)
        while len(reply) < 4 or len(reply) < 4 + struct.unpack_from(">I", reply)[0]:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise SandboxLost(f"the sandbox gave no reply within {seconds:g} s")
            if any(key.fd == reader for key, _ in ready):
                block = os.read(reader, 2**20)
                if not block:
                    raise SandboxLost(f"the sandbox ended with status {process.wait()}")
                reply += block
            elif request:
                with suppress(BrokenPipeError):  # the reading side says so
                    request = request[os.write(writer, request) :]
                if not request:
                    selector.unregister(writer)
    return json.loads(reply[4:])
