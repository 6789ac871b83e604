"""The fork server of the sandbox, a trusted process: forks a confined child per program and
monitors it.

`forkdiv.tasks.sandbox.run` starts it with its own environment and without site packages; it
serves requests (JSON strings of code) one by one until the pipe is closed.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from typing import Any

from forkdiv.tasks.sandbox import child, confinement
from forkdiv.tasks.sandbox.child import Bounds, Setup

OUTCOMES = {
    child.DONE: "ok",
    child.RAISED: "raised",
    child.MEMORY: "memory",
    child.DENIED: "denied",
}
ENDED_BY: dict[int, tuple[str, str]] = {
    signal.SIGALRM: ("timeout", "exceeded the limit of wall-clock time"),
    **dict.fromkeys(
        (signal.SIGPROF, signal.SIGXCPU), ("timeout", "exceeded the limit of CPU time")
    ),
    signal.SIGSYS: ("denied", "made a system call that is not allowed"),
}
BACKSTOP_S = 5.0  # so that the kernel's timer fires first, even if a child starts slowly


def serve() -> None:
    """Reads requests from descriptor 0 and writes replies to descriptor 1 until end of file."""
    bounds = Bounds(**json.loads(sys.argv[1]))
    plain_signals()
    descriptors = child.DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    token = os.urandom(8)
    import_guard = child.load_modules(token)
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    setup = Setup(bounds, confinement.create_ruleset(), null, import_guard, os.getpid(), token)
    gc.collect()
    gc.freeze()
    while (code := receive(requests)) is not None:
        send(replies, run(code, setup))


def plain_signals() -> None:
    """Restores the default handling of the signals that limits send; the parent process may have
    ignored or blocked them."""
    for number in (*ENDED_BY, signal.SIGXFSZ, signal.SIGSEGV, signal.SIGBUS):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def receive(pipe: int) -> Any:
    """Returns the next JSON value, or None if the other side has closed the pipe."""
    header = read_exactly(pipe, 4)
    body = header and read_exactly(pipe, *struct.unpack(">I", header))
    return json.loads(body) if body else None


def read_exactly(pipe: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        block = os.read(pipe, count - len(data))
        if not block:
            return b""
        data += block
    return data


def send(pipe: int, value: Any) -> None:
    body = json.dumps(value).encode()
    data = struct.pack(">I", len(body)) + body
    while data:
        data = data[os.write(pipe, data) :]


def run(code: str, setup: Setup) -> dict[str, str]:
    """Runs one program in its own child; returns its outcome, output and error."""
    start = confinement.address_space("self")
    printed, output_end = os.pipe()
    reports, report_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        child.enter(code, setup, output_end, report_end)
    os.close(output_end)
    os.close(report_end)
    try:
        return watch(pid, printed, reports, setup, start)
    finally:
        os.close(printed)
        os.close(reports)


def watch(pid: int, printed: int, reports: int, setup: Setup, start: int) -> dict[str, str]:
    """Monitors a child until it ends and reaps it. `start`: its initial address space in bytes."""
    bounds = setup.bounds
    try:
        output, report, stopped = follow(printed, reports, bounds)
        highest = peak(pid) if len(report) > 1 else 0
    finally:
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    while len(output) <= bounds.output and (block := os.read(printed, 2**16)):
        output += block
    if report[:1] != child.READY:
        reason = report[1:].decode(errors="replace") or f"it ended with status {status}"
        return {"fault": f"a child could not be confined: {reason}"}
    # a child that did not wait to be killed has sent no valid report, whatever it wrote
    outcome, error = stopped or ending(report[1:] if highest else b"", status, setup.token)
    if highest - start > bounds.memory:
        outcome, error = "memory", "exceeded the limit of memory"
    elif len(output) > bounds.output:
        outcome, error = "output", "exceeded the limit of output"
    text = output[: bounds.output].decode(errors="replace")
    return {"outcome": outcome, "printed": text, "error": error}


def follow(
    printed: int, reports: int, bounds: Bounds
) -> tuple[bytes, bytes, tuple[str, str] | None]:
    """Reads a child's output and report until it has finished or died. The third value is the
    outcome and reason if it had to be stopped, else None."""
    output, report = b"", b""
    deadline = time.monotonic() + bounds.wall_s + BACKSTOP_S
    poller = select.poll()
    poller.register(printed, select.POLLIN)
    poller.register(reports, select.POLLIN)
    while len(report) < 2:
        ready = dict(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if not ready:
            return output, report, ("timeout", "was not stopped by the kernel's timer")
        if reports in ready:  # first, because READY is sent before any output
            block = os.read(reports, 2**16)
            report += block
            if not block:
                break
        if printed in ready:
            block = os.read(printed, 2**16)
            output += block
            if len(output) > bounds.output:
                break
            if not block:
                poller.unregister(printed)
    return output, report, None


def peak(child: int) -> int:
    """Returns the peak address space of a child in bytes; 0 if the child is already dead."""
    try:
        return confinement.address_space(child, peak=True)
    except ProcessLookupError:
        return 0


def ending(report: bytes, status: int, token: bytes) -> tuple[str, str]:
    """Returns outcome and reason, from the child's report or else from its exit status."""
    if report:
        what, why = report.removeprefix(token)[:1], report[len(token) + 1 :]
        if report.startswith(token) and what in OUTCOMES:
            return OUTCOMES[what], why.decode(errors="replace")
        return "denied", "wrote to the sandbox's report pipe"
    code = os.waitstatus_to_exitcode(status)
    if code == confinement.OUT_OF_MEMORY:
        return "memory", "requested more memory than the limit at once"
    return ENDED_BY.get(-code, ("crashed", f"ended by signal {-code}"))
