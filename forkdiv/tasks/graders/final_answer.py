r"""Where a response in words and formulas has its answer: what `math` compares.

The last box counts. Without a box, it is what follows the last "the answer is", else the last
formula, else the whole text if it is short, else the last number.
"""

from __future__ import annotations

import re

from forkdiv.tasks.graders import numbers
from forkdiv.tasks.graders.answers import Answer, read
from forkdiv.tasks.graders.latex import has_box, last_box
from forkdiv.tasks.graders.notation import unify
from forkdiv.tasks.graders.numbers import Unreadable

SHORT = 200  # characters of a text that may be an answer as a whole

_STATED = re.compile(
    r"(?:\banswer\b|答案)[*_]*\s*(?:(?:is|are|为|是)\b[*_]*\s*:?|:|=|为|是)[*_]*\s*"
    r"|(?:^|\n)\s*####\s*",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>(?:\\.|[^$\\])+)\$\$|(?<!\\)\$(?P<inline>(?:\\.|[^$\\\n])+)\$"
    r"|(?<!\\)\\\((?P<round>.+?)\\\)|(?<!\\)\\\[(?P<square>.+?)\\\]",
    re.DOTALL,
)
_END = re.compile(r"\.(?:\s|$)|\n")
_JOINED = re.compile(r"\s*(?:,|;|,?\s*(?:and|or))\s*")
_HOPE = re.compile(r"\.?\s*I hope it is correct.*", re.DOTALL)


def final_answer(text: str) -> Answer:
    """Returns the answer of a response. Raises Unreadable if there is none that can be read."""
    if has_box(text):
        return read(last_box(text))
    text = unify(text)
    if stated := list(_STATED.finditer(text)):
        return _stated(_HOPE.sub("", text[stated[-1].end() :]))
    if formulas := list(_FORMULA.finditer(text)):
        return read(_last_formulas(text, formulas))
    if text.strip() and len(text) <= SHORT and not _words(text):
        return read(text)
    return _number(text)


def _stated(tail: str) -> Answer:
    """Reads the answer at the start of what follows "the answer is"."""
    formulas = list(_FORMULA.finditer(tail))
    end = _END.search(tail)
    sentence = tail[: end.start()] if end else tail
    if formulas and formulas[0].start() <= len(sentence):
        return read(_first_formulas(tail, formulas))
    answer = read(sentence.strip(" *_"))
    if answer.kind in ("formula", ",") and _words(sentence):
        return _number(sentence)
    return answer


def _first_formulas(text: str, formulas: list[re.Match[str]]) -> str:
    """Returns the first formula, with those that follow it as `$1$ and $2$`."""
    chosen = formulas[:1]
    for formula in formulas[1:]:
        if not _JOINED.fullmatch(text, chosen[-1].end(), formula.start()):
            break
        chosen.append(formula)
    return _joined(chosen)


def _last_formulas(text: str, formulas: list[re.Match[str]]) -> str:
    chosen = formulas[-1:]
    for formula in reversed(formulas[:-1]):
        if not _JOINED.fullmatch(text, formula.end(), chosen[0].start()):
            break
        chosen.insert(0, formula)
    return _joined(chosen)


def _joined(formulas: list[re.Match[str]]) -> str:
    contents = [next(part for part in match.groups() if part) for match in formulas]
    return ", ".join(content.strip() for content in contents)


def _number(text: str) -> Answer:
    number = numbers.last(text)
    if number is None:
        raise Unreadable("no mathematics")
    return Answer("value", str(number))


def _words(text: str) -> int:
    """Returns the number of words of a text, without commands and short names."""
    return len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z({])", text))
