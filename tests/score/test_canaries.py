"""Canaries: a grader that misjudges what is known is not believed, and its failure is no answer."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.score import grader_process
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.counterfactual_arithmetic import CounterfactualConfig
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build

ROOT = Path(__file__).parents[2]
SUMS = CounterfactualConfig()
SUM = build(SUMS).heldout("test", 4)[0]
CANARIES = build(SUMS).canaries()

# The same loop around a verifier that is broken where it runs.
BROKEN = """
import os, sys, time
from forkdiv.score import grader_process
from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.registry import build

class Broken:
    def __init__(self, task):
        self.task = task

    def verify(self, problem, text):
        with open(sys.argv[0] + ".log", "a") as log:
            log.write(problem.id + "\\n")
        HOW
        return self.task.verify(problem, text)

grader_process.build = lambda config: Broken(build(config))
grader_process._serve_verdicts()
"""


def graded_sums(folder: Path, how: str, texts: list[str], seconds: float = 10) -> list[Verdict]:
    script = folder / "broken.py"
    script.write_text(BROKEN.replace("HOW", how))
    with Grader(build(SUMS), seconds, (sys.executable, str(script))) as grader:
        return grader.grade([(SUM, text) for text in texts])


def test_canaries_are_known_in_more_than_one_outcome() -> None:
    assert {outcome for _, _, outcome in CANARIES} >= {Outcome.CORRECT, Outcome.WRONG}
    for problem, text, outcome in CANARIES:
        assert build(SUMS).verify(problem, text).outcome is outcome


def test_canaries_of_a_sound_grader_leave_verdicts_and_their_order_alone(tmp_path: Path) -> None:
    good = build(SUMS).solutions(SUM)[0].text
    verdicts = graded_sums(tmp_path, "pass", [good, "", good])
    assert verdicts == [build(SUMS).verify(SUM, text) for text in (good, "", good)]
    judged = Path(f"{tmp_path}/broken.py.log").read_text().split()
    assert judged == [problem.id for problem, _, _ in CANARIES] + [SUM.id] * 3


@pytest.mark.parametrize("outcome", ["CORRECT", "WRONG", "UNPARSABLE"])
def test_a_grader_that_misjudges_a_canary_makes_every_verdict_an_error(
    tmp_path: Path, outcome: str
) -> None:
    good = build(SUMS).solutions(SUM)[0].text
    how = f"return Verdict(Outcome.{outcome}, None, 'blind')"
    verdicts = graded_sums(tmp_path, how, [good, "", good])
    assert [one.outcome for one in verdicts] == [Outcome.ERROR] * 3
    for one in verdicts:
        assert one.detail.startswith("the grader is broken: it judges")
        assert outcome.lower() in one.detail and "(blind)" in one.detail


def test_one_misjudged_canary_makes_every_verdict_an_error(tmp_path: Path) -> None:
    which = CANARIES[-1][0].id, CANARIES[-1][1]
    how = f"if (problem.id, text) == {which!r}: return Verdict(Outcome.CORRECT)"
    (verdict,) = graded_sums(tmp_path, how, ["1"])
    assert verdict.outcome is Outcome.ERROR and repr(which[1]) in verdict.detail


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("os._exit(3)", "the grading process exited with status 3"),
        ("time.sleep(1000)", "the grader returned no verdict within 1 s"),
    ],
)
def test_a_grader_that_fails_on_a_canary_gives_errors_and_no_wrong_answers(
    tmp_path: Path, how: str, told: str
) -> None:
    limit = 1 if "sleep" in how else 60  # on a busy machine the process starts in over 1 s
    (verdict,) = graded_sums(tmp_path, how, ["1"], seconds=limit)
    assert verdict == Verdict(Outcome.ERROR, None, f"{told}, on a response whose verdict is known")


def test_a_grader_that_keeps_failing_is_given_up(tmp_path: Path) -> None:
    verdicts = graded_sums(tmp_path, "os._exit(3)", [str(i) for i in range(100)])
    assert {one.outcome for one in verdicts} == {Outcome.ERROR}
    starts = len(Path(f"{tmp_path}/broken.py.log").read_text().split())
    assert starts == grader_process.MAX_FAILURES_IN_A_ROW * grader_process.MAX_ATTEMPTS
    assert verdicts[-1].detail.startswith("the grader failed on 8 responses in a row: ")


def test_a_grader_that_is_started_again_is_tried_again(tmp_path: Path) -> None:
    how = f"if text == 'KILL' and problem.id == {SUM.id!r}: os._exit(3)"
    good = build(SUMS).solutions(SUM)[0].text
    verdicts = graded_sums(tmp_path, how, [good, "KILL", good])
    assert [one.outcome for one in verdicts] == [Outcome.CORRECT, Outcome.ERROR, Outcome.CORRECT]
    judged = Path(f"{tmp_path}/broken.py.log").read_text().split()
    assert judged.count(CANARIES[0][0].id) == 3 * sum(
        problem == CANARIES[0][0] for problem, _, _ in CANARIES
    )


USERS = """
canaries = [("4", "2 + 2 is 4", "correct"), ("4", "2 + 2 is 5", "wrong")]

def sound(answer, text):
    return text.endswith(answer)

def broken(answer, text):
    return len(text) > 1
"""


@pytest.mark.parametrize(
    ("function", "outcome"), [("sound", Outcome.WRONG), ("broken", Outcome.ERROR)]
)
def test_a_users_own_grader_must_judge_its_own_canaries_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, outcome: Outcome
) -> None:
    (tmp_path / "users_grader.py").write_text(USERS)
    rows = [{"prompt": f"{i} + {i}?", "answer": str(2 * i)} for i in range(4)]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    task = FileConfig(test=tmp_path / "test.jsonl", grader=f"users_grader:{function}")
    problem = Problem("p", "test", "problems", "1 + 1?", {"answer": "2"})
    with Grader(build(task)) as grader:
        (verdict,) = grader.grade([(problem, "It is 3")])
    assert verdict.outcome is outcome
    assert outcome is not Outcome.ERROR or "the grader is broken" in verdict.detail
