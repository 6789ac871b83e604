"""A grader's failure is no reward of 0: it is retried, then its group is left out and counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.records import Outcome
from forkdiv.rl.rewards import Rewards, check_solutions
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.registry import build
from tests.fakes import TASK, other_end, right

TASKS = build(TASK)
PROBLEM = TASKS.heldout("test", 4)[0]

# forkdiv's own grading process around a verifier that fails as the response says; ONCE fails only
# in the first process
FAILING = """
import pathlib, sys
from forkdiv.score import grader_process
from forkdiv.tasks.registry import build

first = pathlib.Path(sys.argv[0] + ".first")
again = first.exists()
first.touch()

class Failing:
    def __init__(self, task):
        self.task = task

    def verify(self, problem, text):
        if text == "FAIL" or (text == "ONCE" and not again):
            raise ZeroDivisionError("the verifier has a bug")
        if text == "ONCE":
            text = problem.facts["start"]
        return self.task.verify(problem, text)

grader_process.build = lambda config: Failing(build(config))
grader_process._serve_verdicts()
"""

Of = Callable[..., object]


@pytest.fixture
def rewards(tmp_path: Path) -> Rewards:
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    return Rewards(TASKS, new_grader=lambda: Grader(TASKS, 20.0, (sys.executable, str(script))))


def responses(*texts: str, finish: str = "stop") -> list[tuple[object, str, str]]:
    return [(PROBLEM, text, finish) for text in texts]


def test_a_right_response_gets_1_and_every_other_verdict_0(rewards: Rewards) -> None:
    with rewards:
        good, bad = right(PROBLEM), other_end(PROBLEM)
        graded = rewards.of(responses(good, bad, "nonsense", good), 2)  # type: ignore[arg-type]
    assert graded.rewards == [1.0, 0.0, 0.0, 1.0]
    assert (graded.left_out, graded.failure) == (0, "")


def test_a_response_that_was_cut_off_is_not_right(rewards: Rewards) -> None:
    with rewards:
        graded = rewards.of(responses(right(PROBLEM), finish="length") * 2, 2)  # type: ignore[arg-type]
    assert graded.rewards == [0.0, 0.0]
    assert graded.verdicts[0].outcome is Outcome.TRUNCATED


def test_a_failure_that_another_process_does_not_have_costs_nothing(rewards: Rewards) -> None:
    with rewards:
        graded = rewards.of(responses("ONCE", right(PROBLEM)), 2)  # type: ignore[arg-type]
    assert graded.rewards == [0.0, 1.0]
    assert graded.left_out == 0


def test_the_group_of_a_failure_is_left_out_and_the_others_keep_their_rewards(
    rewards: Rewards,
) -> None:
    good = right(PROBLEM)
    with rewards:
        graded = rewards.of(responses(good, "FAIL", good, other_end(PROBLEM)), 2)  # type: ignore[arg-type]
        assert graded.rewards == [None, None, 1.0, 0.0]
        assert graded.left_out == 1
        assert "ZeroDivisionError: the verifier has a bug" in graded.failure
        after = rewards.of(responses(good, good), 2)  # type: ignore[arg-type]
    assert after.rewards == [1.0, 1.0]


def test_a_grader_that_fails_in_every_group_ends_the_run(rewards: Rewards) -> None:
    with rewards, pytest.raises(InvalidResult, match=r"failed in every group .*ZeroDivisionError"):
        rewards.of(responses("FAIL", "x", "y", "FAIL"), 2)  # type: ignore[arg-type]


def test_a_grader_that_accepts_no_solution_is_refused_before_the_run(tmp_path: Path) -> None:
    script = tmp_path / "never.py"
    script.write_text(
        FAILING.replace('if text == "FAIL"', 'text = "nonsense"\n        if text == "FAIL"')
    )
    problems = TASKS.heldout("train", 4)
    with Grader(TASKS) as honest:
        check_solutions(TASKS, problems, honest)
    with Grader(TASKS, 20.0, (sys.executable, str(script))) as never:
        with pytest.raises(UserError, match="accepts none of the task's own solutions"):
            check_solutions(TASKS, problems, never)
