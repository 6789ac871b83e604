"""Rows judged by a grader before anything is learnt from them or measured with them.

Judging takes the main thread of a process, since not every grader works elsewhere. On another
thread (Ray Tune runs trials on one) this module is run as a program that judges.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.graders.base import AnswerGrader
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.checked import RowsRead, leave_out
from forkdiv.tasks.own_data.columns import Row
from forkdiv.tasks.own_data.file import one_line, quoted

RESERVED = "all"  # what results call all subsets together


class Unreadable(Exception):
    """Why a grader finds no answer in what is given as one."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A row, what the right answer is read from, and why the row cannot be graded, if so."""

    row: Row
    answer: str | None
    reason: str


def judge(read: RowsRead, grader: AnswerGrader) -> RowsRead:
    """The same with an answer in every row, read out of the completion where there was none,
    and without the rows that cannot be graded: nothing a model answers could be right, or
    their own solutions would be wrong.

    Raises CalledProcessError where a program of its own judged and failed; it says why itself.
    """
    if threading.current_thread() is threading.main_thread():
        judged = [(one.answer, one.reason) for one in _judged(read.rows, read.unit, grader)]
    else:
        asked = json.dumps([read.unit, [astuple(row) for row in read.rows]]).encode()
        command = (sys.executable, "-m", "forkdiv.tasks.own_data.judged", grader.name)
        done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, check=True)
        judged = json.loads(done.stdout)
    pairs = list(zip(read.rows, judged, strict=True))
    answered = tuple(replace(row, answer=answer) for row, (answer, _) in pairs)
    reasons = {row.line: reason for row, (_, reason) in pairs if reason}
    return leave_out(replace(read, rows=answered), reasons)


def _judged(rows: Sequence[Row], unit: str, grader: AnswerGrader) -> Iterator[_Judged]:
    """In order; a row is compared with the first good one of the same prompt."""
    firsts: dict[str, _Judged] = {}
    for row in rows:
        first = firsts.get(row.prompt)
        one = _judge_row(row, first, grader)
        if first and one.reason:
            at = f"(it has the prompt of {unit} {first.row.line})"
            one = replace(one, reason=f"{one.reason} {at}")
        if not first and not one.reason:
            firsts[row.prompt] = one
        yield one


def _judge_row(row: Row, first: _Judged | None, grader: AnswerGrader) -> _Judged:
    if row.subset == RESERVED:
        return _Judged(row, None, f"the subset {RESERVED!r} is what results call all of them")
    if first and row.subset != first.row.subset:
        names = f"{quoted(row.subset)}, not {quoted(first.row.subset)}"
        return _Judged(row, None, f"the subset is {names}")
    try:
        answer = _reference(row, grader)
        known = first.answer if first and first.answer is not None else answer
        return _Judged(row, answer, _disagreement(row, answer, known, grader))
    except Unreadable as error:
        where = "completion" if row.answer is None else "answer"
        return _Judged(row, None, f"the grader {grader.name} cannot read its {where}: {error}")
    except TimeoutError as error:
        return _Judged(row, None, f"the grader {grader.name} took too long: {one_line(error)}")


def _reference(row: Row, grader: AnswerGrader) -> str:
    """What the right answer is read from. Raises Unreadable."""
    try:
        if row.answer is None:
            assert row.completion is not None
            return _alone(row.completion, grader)
        grader.reference(row.answer)
    except ValueError as error:
        raise Unreadable(quoted(one_line(error), 100)) from error
    return row.answer


def _alone(completion: str, grader: AnswerGrader) -> str:
    """The answer without the text around it, which would go into every example and with every
    response to the grader; the whole completion where the grader does not take that for it."""
    answer = grader.reference(completion)
    try:
        same = grader.grade(answer, completion).outcome is Outcome.CORRECT
    except ValueError:  # math-verify reads more notations than it writes
        same = False
    return answer if same else completion


def _disagreement(row: Row, answer: str, known: str, grader: AnswerGrader) -> str:
    """One problem has one right answer, and its solutions are right."""
    if row.completion is None:
        own, right = grader.reference(answer), grader.reference(known)
        same = own == right or grader.grade(known, answer).outcome is Outcome.CORRECT
        return "" if same else f"the answer is {quoted(own)}, not {quoted(right)}"
    for one in dict.fromkeys((answer, known)):
        verdict = grader.grade(one, row.completion)
        if verdict.outcome is not Outcome.CORRECT:
            return _rejected(verdict, one, grader.name)
    return ""


def _rejected(verdict: Verdict, right: str, grader: str) -> str:
    if verdict.answer is None:
        why = f": {verdict.detail}" if verdict.detail else ""
        return f"the grader {grader} finds its completion {verdict.outcome.value}{why}"
    read = f"reads {quoted(verdict.answer)} from its completion"
    return f"the grader {grader} {read}, not the answer {quoted(right)}"


def _serve() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a grader prints must not look like a verdict
    unit, rows = json.load(sys.stdin)
    judged = _judged([Row(*row) for row in rows], unit, build_grader(sys.argv[1]))
    json.dump([(one.answer, one.reason) for one in judged], out)
    out.close()


if __name__ == "__main__":
    _serve()
