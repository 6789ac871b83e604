"""A grading process that can be killed: a verifier that hangs or dies costs its own response.

The process is this module run as a program: it reads one JSON line per chunk of responses, in
which each problem stands once, and answers with one line per response. A verifier that hangs or
takes its process down costs its own response a second try and then an error verdict, never a
wrong answer, and no other response anything.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from types import TracebackType
from typing import Any

from forkdiv.core.config.tasks import task_adapter
from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.tasks.base import Task
from forkdiv.tasks.registry import build

CHUNK = 512
TRIES = 2
GIVE_UP = 8
SECONDS_PER_RESPONSE = 30.0
PROBLEM = [one.name for one in fields(Problem)]


class Grader:
    """A grading process, restarted when it hangs or dies."""

    def __init__(
        self,
        task: Task,
        seconds: float = SECONDS_PER_RESPONSE,
        command: Sequence[str] = (sys.executable, "-m", "forkdiv.score.grader_process"),
    ) -> None:
        self._task, self._seconds, self._command = task, seconds, command
        self._canaries = task.canaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._given_up = ""

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stop()

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """One verdict per (problem, response text), in order."""
        verdicts: list[Verdict] = []
        failures = 0  # of the response that is next
        errors = 0  # responses lost one after the other
        while len(verdicts) < len(pairs) and not self._given_up:
            at = len(verdicts)
            got, lost = self._ask(pairs[at : at + CHUNK])
            verdicts += got
            errors = 0 if got else errors
            if lost is None:
                continue
            self._stop()
            failures = 1 if got else failures + 1
            if failures == TRIES:
                verdicts.append(Verdict(Outcome.ERROR, None, lost))
                failures, errors = 0, errors + 1
            if errors == GIVE_UP:  # it is the grader, not the responses
                self._given_up = f"the grader failed on {GIVE_UP} responses in a row: {lost}"
        rest = Verdict(Outcome.ERROR, None, self._given_up)
        return verdicts + [rest] * (len(pairs) - len(verdicts))

    def _ask(self, pairs: Sequence[tuple[Problem, str]]) -> tuple[list[Verdict], str | None]:
        """The verdicts that came, and why no more did: the first without one is the culprit."""
        try:
            process = self._process or self._start()
        except _GraderLost as lost:
            return [], str(lost)
        return self._exchange(process, pairs)

    def _exchange(
        self, process: subprocess.Popen[bytes], pairs: Sequence[tuple[Problem, str]]
    ) -> tuple[list[Verdict], str | None]:
        line = json.dumps(_told(pairs)).encode()
        # from a thread: a grader that has stopped reading must not stop this process too
        writer = threading.Thread(target=_write, args=(process, line + b"\n"), daemon=True)
        writer.start()
        verdicts: list[Verdict] = []
        while len(verdicts) < len(pairs):
            try:
                outcome, *rest = json.loads(self._read_line(process))
            except _GraderLost as lost:
                return verdicts, str(lost)
            verdicts.append(Verdict(Outcome(outcome), *rest))
        writer.join()
        return verdicts, None

    def _read_line(self, process: subprocess.Popen[bytes]) -> bytes:
        while b"\n" not in self._buffer:
            self._buffer += self._read_block(process)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _read_block(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(self._seconds):
                raise _GraderLost(f"the grader returned no verdict within {self._seconds:g} s")
        block = os.read(process.stdout.fileno(), 2**20)
        if not block:
            raise _GraderLost(f"the grading process exited with status {process.wait()}")
        return block

    def _start(self) -> subprocess.Popen[bytes]:
        self._buffer = b""
        self._process = subprocess.Popen(
            [*self._command, self._task.config.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # what a verifier starts can be ended with it
        )
        self._try_canaries(self._process)
        return self._process

    def _try_canaries(self, process: subprocess.Popen[bytes]) -> None:
        """A grader that is broken in this process would judge everything alike, and wrongly."""
        pairs = [(problem, text) for problem, text, _ in self._canaries]
        verdicts, lost = self._exchange(process, pairs)
        if lost:
            raise _GraderLost(f"{lost}, on a response whose verdict is known")
        for (problem, text, outcome), verdict in zip(self._canaries, verdicts, strict=True):
            if verdict.outcome is not outcome:
                raise _GraderLost(
                    f"the grader is broken: it judges {text!r} as {verdict.outcome} "
                    f"({verdict.detail}), but with {problem.facts} it is {outcome}"
                )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()


class _GraderLost(Exception):
    """The grading process hung or died on the response it was at."""


def _told(pairs: Sequence[tuple[Problem, str]]) -> list[Any]:
    """The problems, each once, and for every response the place of its problem and its text."""
    places: dict[int, int] = {}
    problems: list[dict[str, Any]] = []
    asked: list[tuple[int, str]] = []
    for problem, text in pairs:
        at = places.setdefault(id(problem), len(problems))
        if at == len(problems):
            # not asdict: it copies the facts, which takes longer than grading
            problems.append({name: getattr(problem, name) for name in PROBLEM})
        asked.append((at, text))
    return [problems, asked]


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin
    # where the process is gone, the reading side says so
    with suppress(BrokenPipeError, ValueError):
        process.stdin.write(line)
        process.stdin.flush()


def _serve_verdicts() -> None:
    task = build(task_adapter.validate_json(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a verifier prints must not look like a verdict
    for line in sys.stdin.buffer:
        told, asked = json.loads(line)
        problems = [Problem(**problem) for problem in told]
        for at, text in asked:
            verdict = _verdict(task, problems[at], text)
            answers.write(json.dumps(verdict).encode() + b"\n")
            answers.flush()


def _verdict(task: Task, problem: Problem, text: str) -> tuple[str, str | None, str, str]:
    try:
        verdict = task.verify(problem, text)
    except Exception as error:
        return Outcome.ERROR, None, f"{type(error).__name__}: {error}", ""
    return verdict.outcome, verdict.answer, verdict.detail, verdict.mode


if __name__ == "__main__":
    _serve_verdicts()
