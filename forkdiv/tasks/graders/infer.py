"""Infers the grader that fits the references of a user's file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from forkdiv.tasks.graders.answers import Answer, read
from forkdiv.tasks.graders.latex import has_box, last_box
from forkdiv.tasks.graders.multiple_choice import Choice
from forkdiv.tasks.graders.numbers import Unreadable
from forkdiv.tasks.graders.numeric import Numeric
from forkdiv.tasks.own_data.columns import Row

_HASH = re.compile(r"^\s*####", re.MULTILINE)
# LaTeX commands, powers, equations, sums and products; a lone $ is a currency
_MATHEMATICS = re.compile(r"\\[A-Za-z]|\^|=|\$[^$]+\$|[0-9a-z)]\s*[+*/]\s*[0-9a-z(]")
_DIGITS_WITH_LETTERS = re.compile(r"[0-9A-F]*(?:[0-9][A-F]|[A-F][0-9])[0-9A-F]*")


def infer_grader(rows: Sequence[Row]) -> tuple[str, str]:
    """Returns the name of the grader, and why it was chosen."""
    if not rows:
        return "exact", "there are no rows"
    completions = [row.completion for row in rows if row.completion]
    answers = [row.answer for row in rows if row.answer is not None]
    references = answers if len(answers) == len(rows) else answers + completions
    boxed = sum(map(has_box, completions)) * 2 >= len(completions) > 0
    if all(_reads(Choice().reference, answer) for answer in references):
        return "choice", "every answer is a letter"
    marked = bool(completions) and all(map(_HASH.search, completions))
    if marked and (_numbers(references) or all(map(_HASH.search, references))):
        return "hash", "every completion marks its answer by ####"
    if boxed and not _any_base_digits(references):
        if all(_reads(_content, answer) for answer in references):
            return "math", "completions have their answer in \\boxed{}"
    elif boxed or all("\\boxed" in row.prompt for row in rows):
        if not _numbers(references):
            return "boxed", "answers are in \\boxed{}, and digits with letters among them"
        return "math", "every prompt asks for an answer in \\boxed{}"
    if answers and _numbers(references):
        return "numeric", "every answer is a number"
    if any(_is_mathematics(answer) for answer in answers):
        return "math", "answers contain mathematics"
    return "exact", "the answers have no special form"


def _numbers(references: Sequence[str]) -> bool:
    return all(_reads(Numeric().reference, reference) for reference in references)


def _any_base_digits(references: Sequence[str]) -> bool:
    contents = (last_box(text) if _closed_box(text) else text for text in references)
    return any(_DIGITS_WITH_LETTERS.fullmatch(content.strip()) for content in contents)


def _closed_box(text: str) -> bool:
    return has_box(text) and _reads(last_box, text)


def _content(text: str) -> Answer:
    return read(last_box(text) if has_box(text) else text)


def _is_mathematics(answer: str) -> bool:
    if _MATHEMATICS.search(answer):
        return True
    if not _reads(read, answer):
        return False
    return any(item.kind == "value" for item in read(answer).items)


def _reads(read_reference: Callable[[str], object], answer: str) -> bool:
    try:
        read_reference(answer)
    except (Unreadable, ValueError):
        return False
    return True
