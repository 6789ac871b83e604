"""Algebra in a process of its own, so that no text can take the grader's time or memory.

The process is this module run as a program. It imports math-verify once and forks a child, which
compares pair after pair; the kernel ends a child that exceeds its CPU time for a pair or its
memory, and the next pair gets a new one. What ends a child is the text of the response, so it has
no readable answer; only the end of the process itself is a failure of the grader.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from forkdiv.tasks.graders.answers import Answer
from forkdiv.tasks.graders.numbers import Unreadable

CPU_S = 2
WALL_S = 20.0  # less than the time limit of a grading process, whatever else the machine runs
MEMORY = 2**30  # bytes beyond what the process has when it forks
PAIRS = 200  # for one child: what it caches counts towards its memory
INCOMPARABLE = "a formula that cannot be compared"
TOO_LARGE = "a formula too large to compare"
# compared before the first fork: a child inherits what this imports and caches
WARM_UP = (
    ("x^2+2x+1", "(x+1)^2"),
    (r"\frac{\sqrt{3}}{3}+\pi", r"\frac{1}{\sqrt{3}}"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    ("x>2", "3<x"),
)
REPLIES = {"equal": True, "different": False}


class AlgebraProcess:
    """Compares answers in another process, which starts at the first call."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def equal(self, expected: Answer, actual: Answer) -> bool:
        """Returns whether a response's answer is equal to the reference's.

        Raises Unreadable if the response's answer cannot be compared, and RuntimeError if the
        process has ended.
        """
        with self._lock:
            process = self._process or self._start()
            assert process.stdin and process.stdout
            try:
                process.stdin.write(json.dumps([to_json(expected), to_json(actual)]) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # the empty reply below says so
            reply = process.stdout.readline().strip()
            if not reply:
                self._process = None
                raise RuntimeError(f"the process of math-verify ended with {process.wait()}")
        if reply not in REPLIES:
            raise Unreadable(reply)
        return REPLIES[reply]

    def _start(self) -> subprocess.Popen[str]:
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin and process.stdout
    process.stdin.close()
    process.wait()
    process.stdout.close()


def to_json(answer: Answer) -> list[Any]:
    items = [to_json(item) for item in answer.items]
    return [answer.kind, answer.text, items, answer.percent]


def from_json(value: list[Any]) -> Answer:
    kind, text, items, percent = value
    return Answer(kind, text, tuple(map(from_json, items)), percent)


def _serve() -> None:
    from forkdiv.tasks.graders import algebra

    for pair in WARM_UP:
        algebra.equal(*pair)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    address_space = pages * resource.getpagesize()
    child: _Child | None = None
    for line in sys.stdin:
        child = child or _Child(algebra.equal_answers, address_space)
        replies.write(child.compare(line) + "\n")
        replies.flush()
        if child.ended:
            child = None
    if child:
        child.end()


class _Child:
    """A fork of this process that compares up to `PAIRS` pairs."""

    def __init__(self, compare: Any, address_space: int) -> None:
        given, give = os.pipe()
        result, result_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(give)
            os.close(result)
            try:
                _compare_all(compare, address_space, given, result_end)
            finally:
                os._exit(0)
        os.close(given)
        os.close(result_end)
        self._pairs, self._results = os.fdopen(give, "w"), os.fdopen(result)
        self._left = PAIRS
        self.ended = False

    def compare(self, line: str) -> str:
        """Returns `equal`, `different`, or why the response has no answer that can be compared."""
        self._pairs.write(line)
        self._pairs.flush()
        ready, _, _ = select.select([self._results], [], [], WALL_S)
        reply = self._results.readline().strip() if ready else ""
        self._left -= 1
        if not reply or not self._left:
            self.end()
        return reply or TOO_LARGE

    def end(self) -> None:
        """Ends the fork."""
        self.ended = True
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._results.close()
        with suppress(BrokenPipeError):
            self._pairs.close()


def _compare_all(compare: Any, address_space: int, given: int, result_end: int) -> None:
    """What the fork does: each line of `given` is a pair, each line of `result_end` a reply."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (address_space + MEMORY, address_space + MEMORY))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    with os.fdopen(given) as lines:
        for line in lines:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            limit = math.ceil(usage.ru_utime + usage.ru_stime) + CPU_S
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            expected, actual = map(from_json, json.loads(line))
            os.write(result_end, _compared(compare, expected, actual) + b"\n")


def _compared(compare: Any, expected: Answer, actual: Answer) -> bytes:
    try:
        return b"equal" if compare(expected, actual) else b"different"
    except (MemoryError, RecursionError):
        return TOO_LARGE.encode()
    except Exception:
        return INCOMPARABLE.encode()


if __name__ == "__main__":
    _serve()
