"""Runs Python programs that a model wrote, under limits that the kernel enforces.

    with Sandbox(Limits(cpu_s=2.0)) as sandbox:
        result = sandbox.run("print(6 * 7)")  # RunResult(outcome="ok", printed="42\\n", error="")

Each program runs in its own process, forked from a server that has loaded only the modules of
`MODULES`. Before the program starts, its process permanently loses or limits:

- files: no path can be opened, created, changed or removed (Landlock and seccomp, each of which is
  sufficient); every path seems not to exist, including the current folder
- processes and signals: it cannot fork, start a program or send signals, even to itself
- the network, and all communication with other processes except two pipes
- time (interval timers), memory (address space), descriptors and file size (rlimits)
- standard input (empty), the environment, and the caller's descriptors

The printed output is the program's answer. The outcomes `ok` and `raised` are answers: an
exception is what the model's program does. Every other outcome means that a limit was reached or a
forbidden action attempted; such a run is neither right nor wrong. This is detected even if the
program catches exceptions, since the kernel kills it at once. Importing a module that this Python
has but `MODULES` lacks is a forbidden action; importing any other missing module raises
ImportError.

Runs are reproducible: same hash seed, random numbers and time zone, no state from earlier runs.
Only their speed varies, and therefore whether they reach a time limit.
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
# -s -S -P with a fixed environment equals -I, except that PYTHONHASHSEED is read. TZ is set
# because the C library would otherwise open a file to determine the time zone.
PYTHON = (sys.executable, "-s", "-S", "-P", "-X", "utf8", "-c")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC0", "LC_ALL": "C"}
ENTRY = (
    "import sys; sys.path.append({!r});"
    " from forkdiv.tasks.sandbox.{} import {} as f; sys.path.pop(); f()"
)
ROOT = str(Path(__file__).parents[3])
SELFTEST_S = 60.0
LEAST_MEMORY_MIB = 64  # the C library's heap can grow by 32 MiB at once, unnoticed by the filter

# Uses what ordinary solutions use; it prints 42 if the limits do not interfere with them.
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
    """The sandbox itself failed, so there is no verdict on the program."""


class Ended(StrEnum):
    """How a run ended. Only the first two outcomes are answers."""

    OK = "ok"
    RAISED = "raised"  # the program raised an exception
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    DENIED = "denied"  # attempted a forbidden action
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a run. `memory_mib` limits the growth of the address space, which includes
    unused memory.

    Raises UserError on construction for values that cannot be enforced.
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
                raise refuse(
                    f"the sandbox limit {name} is not valid",
                    value,
                    f"a finite number, {low} or more",
                    f"correct {name}",
                )

    def bounds(self) -> Bounds:
        memory = self.memory_mib * confinement.MIB
        return Bounds(self.cpu_s, self.wall_s, memory, self.output_kib * 1024)


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run. `printed` is the whole standard output; `error` is the program's
    exception if it raised one, else the reason of the outcome."""

    outcome: Ended
    printed: str
    error: str

    @property
    def answered(self) -> bool:
        """Whether the outcome is an answer of the program, not the effect of a limit."""
        return self.outcome in (Ended.OK, Ended.RAISED)


class Sandbox:
    """Runs programs one at a time; a context manager. Not thread-safe.

    Raises UserError if this machine cannot enforce the limits. `run` raises SandboxLost if the
    sandbox itself fails; the next run starts a new fork server.
    """

    def __init__(self, limits: Limits = Limits(), patience_s: float = 30.0) -> None:
        """`patience_s`: time that a reply may take in addition to `limits.wall_s`."""
        if reason := unavailable():
            raise refuse(
                "this machine cannot confine the programs of a code task",
                reason,
                "Linux on x86_64 or aarch64 with seccomp and Landlock",
                "run code tasks on such a machine, or use other tasks",
            )
        self._server = _ForkServer(limits, patience_s)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, code: str) -> RunResult:
        """Runs a program and returns its result."""
        return self._server.run(code)

    def close(self) -> None:
        """Ends all processes of the sandbox."""
        self._server.stop()


@cache
def unavailable() -> str | None:
    """Returns why this machine cannot enforce the limits; None if all limits passed their test.

    Tests each limit once per process, in separate processes; takes about half a second.
    """
    try:
        confinement.machine()
        gaps = _selftest()
        if gaps:
            return "nothing prevents a program from " + ", ".join(gaps)
        server = _ForkServer(Limits(), SELFTEST_S)
        try:
            result = server.run(PLAIN)
        finally:
            server.stop()
    except (OSError, SandboxLost, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if result.printed == "42\n" else f"its limits stop an ordinary program: {result}"


def _selftest() -> list[str]:
    """Returns the forbidden actions that the kernel does not stop, tested in another process."""
    command = [*PYTHON, ENTRY.format(ROOT, "selftest", "run_selftest")]
    environment = {**ENVIRONMENT, "TMPDIR": tempfile.gettempdir()}
    process = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SELFTEST_S,
        check=False,
    )
    if process.returncode:
        last = process.stderr.strip().rpartition("\n")[2]
        raise SandboxLost(f"the test of its limits ended with {process.returncode}: {last}")
    gaps: list[str] = json.loads(process.stdout)
    return gaps


class _ForkServer:
    """The process that forks a confined child for each program; started at the first run."""

    def __init__(self, limits: Limits, patience_s: float) -> None:
        self._bounds, self._seconds = limits.bounds(), limits.wall_s + patience_s
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, code: str) -> RunResult:
        process = self._process or self._start()
        try:
            reply = _exchange(process, json.dumps(code).encode(), self._seconds)
            if "fault" in reply:
                raise SandboxLost(reply["fault"])
        except BaseException:  # otherwise a late reply would be taken for the next one
            self.stop()
            raise
        return RunResult(Ended(reply["outcome"]), reply["printed"], reply["error"])

    def _start(self) -> subprocess.Popen[bytes]:
        entry = ENTRY.format(ROOT, "forkserver", "serve")
        process = self._process = subprocess.Popen(
            [*PYTHON, entry, json.dumps(asdict(self._bounds))],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that its children can be killed with it
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
    """Sends a request and returns the reply. Raises SandboxLost if there is none in time."""
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
                raise SandboxLost(f"the sandbox did not reply within {seconds:g} s")
            if any(key.fd == reader for key, _ in ready):
                block = os.read(reader, 2**20)
                if not block:
                    raise SandboxLost(f"the sandbox ended with status {process.wait()}")
                reply += block
            elif request:
                with suppress(BrokenPipeError):  # the end of file is detected when reading
                    request = request[os.write(writer, request) :]
                if not request:
                    selector.unregister(writer)
    return json.loads(reply[4:])
