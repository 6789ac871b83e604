"""A hostile verifier costs its own response only; an error is never a wrong answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.score import grader_process
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.registry import build
from tests.fakes import TASK, UNREADABLE, broken, other_end, right

FIRST = build(TASK).heldout("test", 4)[0]
SECONDS = 3.0  # for a chunk, the start of the grading process (0.5 s) included

# forkdiv.score.grader_process's own loop around a verifier that does what the response says.
HOSTILE = """
import os, signal, sys, time
from forkdiv.score import grader_process
from forkdiv.tasks.registry import build

class Hostile:
    def __init__(self, task):
        self.task = task

    def verify(self, problem, text):
        with open(sys.argv[0] + ".log", "a") as log:
            log.write(text + "\\n")
        if text == "RAISE":
            raise ZeroDivisionError("the verifier has a bug")
        if text == "HANG":
            time.sleep(1000)
        if text == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "NONE":
            return None
        if text == "FORK":
            if os.fork() == 0:
                time.sleep(2.5)
                os._exit(0)
            time.sleep(1000)
        if text.startswith("PRINT "):
            print('["correct", null, "", ""]', flush=True)
            os.write(1, b'["correct", null, "", ""]\\n')
            text = text.removeprefix("PRINT ")
        return self.task.verify(problem, text)

grader_process.build = lambda config: Hostile(build(config))
grader_process._serve_verdicts()
"""

Grade = Callable[..., list[Verdict]]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    script = tmp_path / "hostile.py"
    script.write_text(HOSTILE)
    return script


@pytest.fixture
def grade(hostile: Path) -> Grade:
    def grade(*texts: str) -> list[Verdict]:
        with Grader(build(TASK), SECONDS, (sys.executable, str(hostile))) as grader:
            return grader.grade([(FIRST, text) for text in texts])

    return grade


def graded(hostile: Path) -> list[str]:
    return Path(f"{hostile}.log").read_text().splitlines()


def test_a_raising_verifier_costs_its_own_response_and_names_the_error(
    grade: Grade, hostile: Path
) -> None:
    first, second, third = grade(right(FIRST), "RAISE", other_end(FIRST))
    assert (first.outcome, third.outcome) == (Outcome.CORRECT, Outcome.WRONG)
    assert second == Verdict(Outcome.ERROR, None, "ZeroDivisionError: the verifier has a bug")
    assert len(graded(hostile)) == 3


@pytest.mark.parametrize("text", ["KILL", "NONE"])
def test_a_verifier_that_ends_its_process_costs_its_own_response_only(
    grade: Grade, hostile: Path, text: str
) -> None:
    verdicts = grade(text, right(FIRST))
    assert [v.outcome for v in verdicts] == [Outcome.ERROR, Outcome.CORRECT]
    assert "the grading process" in verdicts[0].detail
    assert graded(hostile).count(text) == grader_process.MAX_ATTEMPTS


def test_a_hanging_verifier_costs_its_own_response_only_in_bounded_time(grade: Grade) -> None:
    started = time.monotonic()
    verdicts = grade(right(FIRST), "HANG")
    took = time.monotonic() - started
    assert [v.outcome for v in verdicts] == [Outcome.CORRECT, Outcome.ERROR]
    assert verdicts[1].detail == f"the grader returned no verdict within {SECONDS:g} s"
    assert took < grader_process.MAX_ATTEMPTS * (SECONDS + 2)


def test_a_hanging_verifier_with_a_child_of_its_own_is_left_in_time(grade: Grade) -> None:
    started = time.monotonic()
    assert [v.outcome for v in grade("FORK")] == [Outcome.ERROR]
    assert time.monotonic() - started < grader_process.MAX_ATTEMPTS * (SECONDS + 1)


@pytest.mark.parametrize("answer", [right, other_end, broken])
def test_the_output_of_a_verifier_is_not_read_as_a_verdict(
    grade: Grade, answer: Callable[[Problem], str]
) -> None:
    text = answer(FIRST)
    printed, plain = grade(f"PRINT {text}", text)
    assert printed == plain == build(TASK).verify(FIRST, text)


def test_a_grader_answers_after_an_error_as_before(hostile: Path) -> None:
    with Grader(build(TASK), SECONDS, (sys.executable, str(hostile))) as grader:
        for text in (right(FIRST), "KILL", right(FIRST)):
            outcome = Outcome.ERROR if text == "KILL" else Outcome.CORRECT
            assert [v.outcome for v in grader.grade([(FIRST, text)])] == [outcome]


def test_verdicts_come_in_order_across_chunks() -> None:
    texts = [right(FIRST), other_end(FIRST), UNREADABLE]
    pairs = [(FIRST, texts[i % 3]) for i in range(2 * grader_process.CHUNK + 5)]
    with Grader(build(TASK)) as grader:
        verdicts = grader.grade(pairs)
    expected = [Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE]
    assert [v.outcome for v in verdicts] == [expected[i % 3] for i in range(len(pairs))]
