"""Rewards from the graders of the project: 1 for a right response, 0 for any other verdict.

A grader that fails is not a wrong answer. What it failed on is graded once more in a new process;
if that fails too, the group of the response is left out of the iteration, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forkdiv.core.errors import InvalidResult, refuse, shortened
from forkdiv.core.records import Finish, Outcome, Problem, Verdict
from forkdiv.core.thinking import Thinking
from forkdiv.score.grader_process import Grader
from forkdiv.score.verdicts import truncated
from forkdiv.tasks.base import Task

Pair = tuple[Problem, str]


@dataclass(frozen=True)
class Graded:
    """The verdicts of one iteration in the order of its responses, and their rewards. A reward is
    None in a group that is left out; `failure` is the message of the first failure."""

    verdicts: list[Verdict]
    rewards: list[float | None]
    left_out: int
    failure: str


class Rewards:
    """Grades responses in a process that can be killed. Use it in a `with` block."""

    def __init__(
        self,
        task: Task,
        thinking: Thinking | None = None,
        new_grader: Callable[[], Grader] | None = None,
    ) -> None:
        self._thinking = thinking
        self._new_grader = new_grader or (lambda: Grader(task, thinking=thinking))
        self._grader = self._new_grader()

    def __enter__(self) -> Rewards:
        return self

    def __exit__(self, *_: object) -> None:
        self._grader.__exit__()

    def of(self, responses: Sequence[tuple[Problem, str, str]], group: int) -> Graded:
        """Returns the rewards of responses (problem, text, finish) in whole groups of `group`.

        Raises InvalidResult if no group is left, since the cause is then the grader.
        """
        verdicts = self._verdicts(responses)
        failed = [verdict.outcome is Outcome.ERROR for verdict in verdicts]
        out = {i // group for i, is_failed in enumerate(failed) if is_failed}
        failure = verdicts[failed.index(True)].detail if out else ""
        if len(out) * group == len(responses):
            raise InvalidResult(
                f"the grader failed in every group of an iteration, also when asked again: "
                f"{failure}; correct the grader and run the same command again"
            )
        rewards = [
            None if i // group in out else float(verdict.outcome is Outcome.CORRECT)
            for i, verdict in enumerate(verdicts)
        ]
        return Graded(verdicts, rewards, len(out), failure)

    def _verdicts(self, responses: Sequence[tuple[Problem, str, str]]) -> list[Verdict]:
        """Equal responses to a problem are graded once; one that was cut off is not graded."""
        by_key: dict[tuple[str, str], Pair] = {
            (problem.id, text): (problem, text)
            for problem, text, finish in responses
            if finish != Finish.LENGTH
        }
        graded = dict(zip(by_key, self._grader.grade(list(by_key.values())), strict=True))
        again = [key for key, verdict in graded.items() if verdict.outcome is Outcome.ERROR]
        if again:
            self._grader.__exit__()
            self._grader = self._new_grader()
            retried = self._grader.grade([by_key[key] for key in again])
            graded |= dict(zip(again, retried, strict=True))
            if any(verdict.outcome is Outcome.ERROR for verdict in retried):
                # one that gave up must not fail on all later responses
                self._grader.__exit__()
                self._grader = self._new_grader()
        return [
            truncated(text, self._thinking) if finish == Finish.LENGTH else graded[problem.id, text]
            for problem, text, finish in responses
        ]


def check_solutions(task: Task, problems: Sequence[Problem], grader: Grader) -> None:
    """Raises UserError if the grader accepts none of the solutions that the task has for the first
    problems: no response could get a reward. A task without solutions is not checked."""
    pairs = [
        (problem, trace.text) for problem in problems[:8] for trace in task.solutions(problem)[:1]
    ]
    if not pairs:
        return
    verdicts = grader.grade(pairs)
    if any(verdict.outcome is Outcome.CORRECT for verdict in verdicts):
        return
    first = verdicts[0]
    raise refuse(
        "the grader accepts none of the task's own solutions, so that no response can get a reward",
        f"{first.outcome} ({first.detail or first.answer}) for {shortened(pairs[0][1])!r}",
        "a grader that judges a correct solution as correct",
        "correct task.grader, or the answers of the file",
    )
