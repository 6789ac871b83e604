"""Checks rows with the grader before training on them or measuring with them.

Grading needs the main thread of a process, since some graders work only there. On another thread
(Ray Tune runs trials in one) this module is run as a program that grades.
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
from forkdiv.core.thinking import UNCLOSED, Thinking, tags_in
from forkdiv.tasks.graders.base import AnswerGrader
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.checked import BadRow, RowsRead, mark_bad
from forkdiv.tasks.own_data.columns import Row
from forkdiv.tasks.own_data.file import one_line, quoted

RESERVED = "all"  # the name of all subsets together in results


class Unreadable(Exception):
    """A grader finds no answer in a reference; the message is the reason."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A row, its reference answer, and the reason why it cannot be graded, or ""."""

    row: Row
    answer: str | None
    reason: str
    rejected: str = ""  # why the row is used without its completion


def judge(read: RowsRead, grader: AnswerGrader, trains: bool = True) -> RowsRead:
    """Returns `read` with an answer in every row, extracted from the completion if the row has
    none. Rows that cannot be graded (no response could be correct, or the row's own completion is
    wrong) are moved to the problems.

    With `trains` False nothing is trained on: a row that has an answer is used without its
    completion if the grader rejects that one, and is listed in `rejected_completions`.

    Raises CalledProcessError if grading in a subprocess fails; its stderr has the cause.
    """
    if threading.current_thread() is threading.main_thread():
        judged = list(map(_result, _judged(read.rows, read.unit, grader, trains)))
    else:
        request = json.dumps([read.unit, trains, [astuple(row) for row in read.rows]]).encode()
        command = (sys.executable, "-m", "forkdiv.tasks.own_data.judged", grader.name)
        process = subprocess.run(command, input=request, stdout=subprocess.PIPE, check=True)
        judged = json.loads(process.stdout)
    pairs = list(zip(read.rows, judged, strict=True))
    answered = tuple(
        replace(row, answer=answer, completion=None if why else row.completion)
        for row, (answer, _, why) in pairs
    )
    reasons = {row.line: reason for row, (_, reason, _) in pairs if reason}
    rejected = tuple(BadRow(read.file, row.line, why, read.unit) for row, (*_, why) in pairs if why)
    return mark_bad(replace(read, rows=answered, rejected_completions=rejected), reasons)


def _result(judged: _Judged) -> tuple[str | None, str, str]:
    return judged.answer, judged.reason, judged.rejected


def _judged(
    rows: Sequence[Row], unit: str, grader: AnswerGrader, trains: bool
) -> Iterator[_Judged]:
    """Judges rows in order; a row is compared with the first good row of the same prompt."""
    firsts: dict[str, _Judged] = {}
    for row in rows:
        first = firsts.get(row.prompt)
        seen = _after_thinking(row)
        judged = _Judged(row, None, f"in its completion, {UNCLOSED}")
        if seen is not None:
            judged = replace(_judge_row(seen, first, grader), row=row)
        if judged.reason and not trains and row.completion and row.answer is not None:
            alone = _judge_row(replace(row, completion=None), first, grader)
            if not alone.reason:
                judged = replace(alone, row=row, rejected=judged.reason)
        if first and judged.reason:
            at = f"(it has the prompt of {unit} {first.row.line})"
            judged = replace(judged, reason=f"{judged.reason} {at}")
        if not first and not judged.reason:
            firsts[row.prompt] = judged
        yield judged


def _after_thinking(row: Row) -> Row | None:
    """Returns the row with the part of its completion that a grader reads; None for one that opens
    its thinking after closing it."""
    tags = tags_in([row.completion]) if row.completion else None
    if tags is None or row.completion is None:
        return row
    # a template that opens the tag leaves the opening one out of its responses
    answer = Thinking(*tags).answer_in(row.completion)
    return None if answer is None else replace(row, completion=answer)


def _judge_row(row: Row, first: _Judged | None, grader: AnswerGrader) -> _Judged:
    if row.subset == RESERVED:
        return _Judged(
            row, None, f"the subset {RESERVED!r} is reserved: in results it means all subsets"
        )
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
    except (Exception, SystemExit) as error:
        if ":" not in grader.name:  # a grader of forkdiv does not raise: a bug
            raise
        raised = f"{type(error).__name__}: {quoted(one_line(error), 100)}"
        return _Judged(row, None, f"the grader {grader.name} raised {raised}")


def _reference(row: Row, grader: AnswerGrader) -> str:
    """Returns the reference answer of a row. Raises Unreadable."""
    try:
        if row.answer is None:
            assert row.completion is not None
            return _answer_in(row.completion, grader)
        grader.reference(row.answer)
    except ValueError as error:
        raise Unreadable(quoted(one_line(error), 100)) from error
    return row.answer


def _answer_in(completion: str, grader: AnswerGrader) -> str:
    """Returns the answer in a completion without the surrounding text, which would be stored in
    every example; the whole completion if the grader does not accept the extracted answer."""
    answer = grader.reference(completion)
    try:
        same = grader.grade(answer, completion).outcome is Outcome.CORRECT
    except ValueError:  # math-verify reads more notations than it writes
        same = False
    return answer if same else completion


def _disagreement(row: Row, answer: str, known: str, grader: AnswerGrader) -> str:
    """Returns why a row contradicts the known answer of its problem or its own answer, or ""."""
    if row.completion is None:
        actual, expected = grader.reference(answer), grader.reference(known)
        same = actual == expected or grader.grade(known, answer).outcome is Outcome.CORRECT
        return "" if same else f"the answer is {quoted(actual)}, not {quoted(expected)}"
    for reference in dict.fromkeys((answer, known)):
        verdict = grader.grade(reference, row.completion)
        if verdict.outcome is not Outcome.CORRECT:
            return _rejected(verdict, reference, grader.name)
    return ""


def _rejected(verdict: Verdict, right: str, grader: str) -> str:
    if verdict.answer is None:
        why = f": {verdict.detail}" if verdict.detail else ""
        return f"the grader {grader} judges its completion {verdict.outcome.value}{why}"
    read = f"reads {quoted(verdict.answer)} from its completion"
    return f"the grader {grader} {read}, not the answer {quoted(right)}"


def _serve() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of a grader must not be mixed with the verdicts
    unit, trains, rows = json.load(sys.stdin)
    judged = _judged([Row(*row) for row in rows], unit, build_grader(sys.argv[1]), trains)
    json.dump(list(map(_result, judged)), out)
    out.close()


if __name__ == "__main__":
    _serve()
