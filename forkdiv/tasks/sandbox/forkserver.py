"""The trusted process of the sandbox: forks one confined child per program and watches it.

`forkdiv.tasks.sandbox.run` starts it with an environment of its own and no site packages; it
answers one request after the other, each a JSON string of code, until the pipe is closed.
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

SAYS = {
    child.DONE: "ok",
    child.RAISED: "raised",
    child.MEMORY: "memory",
    child.DENIED: "denied",
}
ENDED_BY: dict[int, tuple[str, str]] = {
    signal.SIGALRM: ("timeout", "ran out of time"),
    **dict.fromkeys((signal.SIGPROF, signal.SIGXCPU), ("timeout", "ran out of processor time")),
    signal.SIGSYS: ("denied", "made a system call that is not allowed"),
}
BACKSTOP_S = 5.0  # the kernel's timer comes first, also where a child is slow to start


def serve() -> None:
    """Answer requests on descriptor 0 with replies on descriptor 1 until there are no more."""
    bounds = Bounds(**json.loads(sys.argv[1]))
    plain_signals()
    descriptors = child.DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    token = os.urandom(8)
    shelf = child.load_modules(token)
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    setup = Setup(bounds, confinement.create_ruleset(), null, shelf, os.getpid(), token)
    gc.collect()
    gc.freeze()
    while (code := receive(requests)) is not None:
        send(replies, run(code, setup))


def plain_signals() -> None:
    """Whoever started us may have ignored or blocked the signals that the limits send."""
    for number in (*ENDED_BY, signal.SIGXFSZ, signal.SIGSEGV, signal.SIGBUS):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def receive(pipe: int) -> Any:
    """The next JSON value, or None where the other side has closed the pipe."""
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
    """Run one program in a child of its own and tell how it ended and what it printed."""
    start = confinement.address_space("self")
    printed, to_print = os.pipe()
    said, to_say = os.pipe()
    pid = os.fork()
    if pid == 0:
        child.enter(code, setup, to_print, to_say)
    os.close(to_print)
    os.close(to_say)
    try:
        return watch(pid, printed, said, setup, start)
    finally:
        os.close(printed)
        os.close(said)


def watch(pid: int, printed: int, said: int, setup: Setup, start: int) -> dict[str, str]:
    """Follow a child to its end and reap it. `start`: its address space at first, in bytes."""
    bounds = setup.bounds
    try:
        output, saying, cut = follow(printed, said, bounds)
        highest = peak(pid) if len(saying) > 1 else 0
    finally:
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    while len(output) <= bounds.output and (block := os.read(printed, 2**16)):
        output += block
    if saying[:1] != child.READY:
        reason = saying[1:].decode(errors="replace") or f"it ended with status {status}"
        return {"fault": f"a child could not be confined: {reason}"}
    # one that did not wait to be killed has said nothing, whatever it wrote
    outcome, error = cut or ending(saying[1:] if highest else b"", status, setup.token)
    if highest - start > bounds.memory:
        outcome, error = "memory", "grew beyond the limit"
    elif len(output) > bounds.output:
        outcome, error = "output", "printed more than the limit"
    text = output[: bounds.output].decode(errors="replace")
    return {"outcome": outcome, "printed": text, "error": error}


def follow(printed: int, said: int, bounds: Bounds) -> tuple[bytes, bytes, tuple[str, str] | None]:
    """What a child printed and said until it had finished, was dead or (why) had to be cut off."""
    output, saying = b"", b""
    deadline = time.monotonic() + bounds.wall_s + BACKSTOP_S
    poller = select.poll()
    poller.register(printed, select.POLLIN)
    poller.register(said, select.POLLIN)
    while len(saying) < 2:
        ready = dict(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if not ready:
            return output, saying, ("timeout", "the kernel's timer did not end it")
        if said in ready:  # first: that it has begun was said before anything was printed
            block = os.read(said, 2**16)
            saying += block
            if not block:
                break
        if printed in ready:
            block = os.read(printed, 2**16)
            output += block
            if len(output) > bounds.output:
                break
            if not block:
                poller.unregister(printed)
    return output, saying, None


def peak(child: int) -> int:
    """Bytes of address space at most so far; 0 where the child died before it was allowed to."""
    try:
        return confinement.address_space(child, peak=True)
    except ProcessLookupError:
        return 0


def ending(saying: bytes, status: int, token: bytes) -> tuple[str, str]:
    """The outcome and its reason, by what the child said or else by what ended it."""
    if saying:
        what, why = saying.removeprefix(token)[:1], saying[len(token) + 1 :]
        if saying.startswith(token) and what in SAYS:
            return SAYS[what], why.decode(errors="replace")
        return "denied", "wrote to the sandbox's own pipe"
    code = os.waitstatus_to_exitcode(status)
    if code == confinement.OUT_OF_MEMORY:
        return "memory", "asked for more than the limit at once"
    return ENDED_BY.get(-code, ("crashed", f"ended by signal {-code}"))
