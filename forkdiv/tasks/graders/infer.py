"""Infers the grader that fits the references of a user's file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from forkdiv.tasks.graders.multiple_choice import Choice
from forkdiv.tasks.graders.numbers import Unreadable
from forkdiv.tasks.graders.numeric import Numeric
from forkdiv.tasks.own_data.columns import Row


def infer_grader(rows: Sequence[Row]) -> tuple[str, str]:
    """Returns the name of the grader, and why it was chosen."""
    if not rows:
        return "exact", "there are no rows"
    completions = [row.completion for row in rows if row.completion]
    answers = [row.answer for row in rows if row.answer is not None]
    marks = (("hash", re.compile(r"^\s*####", re.MULTILINE)), ("boxed", re.compile(r"\\f?boxed")))
    for name, mark in marks:
        if completions and all(mark.search(text) for text in completions):
            return name, "every completion marks its answer in this way"
    if answers and all(_reads(Choice(), answer) for answer in answers):
        return "choice", "every answer is a letter"
    if answers and all(_reads(Numeric(), answer) for answer in answers):
        return "numeric", "every answer is a number"
    if answers and any(re.search(r"[\\$^=]", answer) for answer in answers):
        return "math", "answers contain mathematics"
    return "exact", "the answers have no special form"


def _reads(grader: Choice | Numeric, answer: str) -> bool:
    try:
        grader.reference(answer)
    except (Unreadable, ValueError):
        return False
    return True
