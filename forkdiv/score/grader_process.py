"""Grading in a separate process that can be killed.

The process is this module run as a program: it reads one JSON line per chunk of responses, with
each problem once, and writes one line per response. When the verifier hangs or crashes on a
response, the process is restarted and the response is graded once more; if that fails too, its
verdict is an error, not a wrong answer. Other responses are not affected.
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
from typing import Any

from forkdiv.core.config.tasks import task_adapter
from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.core.thinking import UNCLOSED, Thinking
from forkdiv.tasks.base import Task
from forkdiv.tasks.registry import build

CHUNK = 512
MAX_ATTEMPTS = 2
MAX_FAILURES_IN_A_ROW = 8
SECONDS_PER_RESPONSE = 30.0
PROBLEM_FIELDS = [field.name for field in fields(Problem)]


class Grader:
    """A grading process, restarted when it hangs or crashes. Use it in a `with` block. With
    `thinking` it grades the part of a response after its thinking."""

    def __init__(
        self,
        task: Task,
        seconds: float = SECONDS_PER_RESPONSE,
        command: Sequence[str] = (sys.executable, "-m", "forkdiv.score.grader_process"),
        thinking: Thinking | None = None,
    ) -> None:
        self._thinking = thinking
        self._task, self._seconds, self._command = task, seconds, command
        self._canaries = task.canaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._given_up = ""

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Returns one verdict per (problem, response text), in order. A response whose thinking is
        not closed is unparsable.

        After `MAX_FAILURES_IN_A_ROW` failed responses in a row, all remaining verdicts are errors.
        """
        if self._thinking is None:
            return self._grade(pairs)
        answers = [self._thinking.answer_in(text) for _, text in pairs]
        read = [
            (problem, answer)
            for (problem, _), answer in zip(pairs, answers, strict=True)
            if answer is not None
        ]
        graded = iter(self._grade(read))
        unclosed = Verdict(Outcome.UNPARSABLE, None, UNCLOSED)
        return [unclosed if answer is None else next(graded) for answer in answers]

    def _grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        failures = 0  # attempts that failed on the next response
        errors = 0  # failed responses in a row
        while len(verdicts) < len(pairs) and not self._given_up:
            start = len(verdicts)
            graded, failure = self._grade_chunk(pairs[start : start + CHUNK])
            verdicts += graded
            errors = 0 if graded else errors
            if failure is None:
                continue
            self._stop()
            failures = 1 if graded else failures + 1
            if failures == MAX_ATTEMPTS:
                verdicts.append(Verdict(Outcome.ERROR, None, failure))
                failures, errors = 0, errors + 1
            if errors == MAX_FAILURES_IN_A_ROW:  # the cause is the grader, not the responses
                self._given_up = f"the grader failed on {errors} responses in a row: {failure}"
        rest = Verdict(Outcome.ERROR, None, self._given_up)
        return verdicts + [rest] * (len(pairs) - len(verdicts))

    def _grade_chunk(
        self, pairs: Sequence[tuple[Problem, str]]
    ) -> tuple[list[Verdict], str | None]:
        """Returns the verdicts up to a failure, and the failure: it concerns the first response
        without a verdict. None means that all were graded."""
        try:
            process = self._process or self._start()
        except _GraderFailed as failure:
            return [], str(failure)
        return self._exchange(process, pairs)

    def _exchange(
        self, process: subprocess.Popen[bytes], pairs: Sequence[tuple[Problem, str]]
    ) -> tuple[list[Verdict], str | None]:
        line = json.dumps(_chunk(pairs)).encode()
        # in a thread: a grader that has stopped reading must not block this process
        writer = threading.Thread(target=_write, args=(process, line + b"\n"), daemon=True)
        writer.start()
        verdicts: list[Verdict] = []
        while len(verdicts) < len(pairs):
            try:
                outcome, *rest = json.loads(self._read_line(process))
            except _GraderFailed as failure:
                return verdicts, str(failure)
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
                raise _GraderFailed(f"the grader returned no verdict within {self._seconds:g} s")
        block = os.read(process.stdout.fileno(), 2**20)
        if not block:
            raise _GraderFailed(f"the grading process exited with status {process.wait()}")
        return block

    def _start(self) -> subprocess.Popen[bytes]:
        self._buffer = b""
        self._process = subprocess.Popen(
            [*self._command, self._task.config.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that child processes of a verifier are killed with it
        )
        self._check_canaries(self._process)
        return self._process

    def _check_canaries(self, process: subprocess.Popen[bytes]) -> None:
        """Grades responses with known verdicts first. A grader that is broken in this process, for
        example because of a missing package, would otherwise misjudge every response."""
        pairs = [(problem, text) for problem, text, _ in self._canaries]
        verdicts, failure = self._exchange(process, pairs)
        if failure:
            raise _GraderFailed(f"{failure}, on a response whose verdict is known")
        for (problem, text, outcome), verdict in zip(self._canaries, verdicts, strict=True):
            if verdict.outcome is not outcome:
                raise _GraderFailed(
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


class _GraderFailed(Exception):
    """The grading process hung or crashed on a response, or failed a canary."""


def _chunk(pairs: Sequence[tuple[Problem, str]]) -> list[Any]:
    """Returns the message for the process: the distinct problems, and for every response the index
    of its problem and its text."""
    indices: dict[int, int] = {}
    problems: list[dict[str, Any]] = []
    responses: list[tuple[int, str]] = []
    for problem, text in pairs:
        index = indices.setdefault(id(problem), len(problems))
        if index == len(problems):
            # not asdict: it copies the facts, which takes longer than grading
            problems.append({name: getattr(problem, name) for name in PROBLEM_FIELDS})
        responses.append((index, text))
    return [problems, responses]


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin
    # if the process has ended, the reading side reports it
    with suppress(BrokenPipeError, ValueError):
        process.stdin.write(line)
        process.stdin.flush()


def _serve_verdicts() -> None:
    task = build(task_adapter.validate_json(sys.argv[1]))
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the output of a verifier must not be read as a verdict
    for line in sys.stdin.buffer:
        rows, responses = json.loads(line)
        problems = [Problem(**row) for row in rows]
        for index, text in responses:
            verdict = _verdict(task, problems[index], text)
            output.write(json.dumps(verdict).encode() + b"\n")
            output.flush()


def _verdict(task: Task, problem: Problem, text: str) -> tuple[str, str | None, str, str]:
    try:
        verdict = task.verify(problem, text)
    except Exception as error:
        return Outcome.ERROR, None, f"{type(error).__name__}: {error}", ""
    return verdict.outcome, verdict.answer, verdict.detail, verdict.mode


if __name__ == "__main__":
    _serve_verdicts()
