"""Reads the final choice, a letter from A to J, of a response to a multiple-choice question.

    So (A) and (C) cannot be. The answer is **B**, since ...

The last box and the last "the answer is" decide. Without either, the last line decides if it is
only a choice, else the choice in bold. Letters count in upper case only: "a" is an article, and so
is "A" before a word.
"""

from __future__ import annotations

import re

from forkdiv.tasks.graders.answers import plain
from forkdiv.tasks.graders.base import CORRECT, UNPARSABLE, WRONG, Reader
from forkdiv.tasks.graders.latex import every_box
from forkdiv.tasks.graders.notation import unify, without_fonts
from forkdiv.tasks.graders.numbers import Unreadable

_ENDS = r"(?=\s*(?:[^\w\s'\u2019]|\n|$))"
_IS = r"(?:is|would\s+be|must\s+be)\b\W*"
_STATED = re.compile(
    rf"\b(?i:answer\b\W*(?:{_IS})?|(?:option|choice)\s+{_IS})(?i:(?:option|choice)\b\W*)?"
    rf"([A-J])(?:{_ENDS}|(?=\s+(?i:or|and|because|since|as|which)\b))"
    rf"(?P<second>[^\w.\n]*(?i:(?:or|and)\b)?[^\w.\n]*[A-J]{_ENDS})?"
)
_LABEL = re.compile(r"\W*(?i:(?:option|choice|answer)\b\W*)?([A-J])(?:\W*|[).:]+\s*\S.*)")
_BOLD = re.compile(r"\*\*\W*([A-J])(?:[).:][^*\n]*)?\W*\*\*")


def read_choice(text: str) -> str:
    """Returns the letter. Raises Unreadable if there is no choice, or several contradict."""
    text = unify(text)
    boxed = None
    if boxes := every_box(text):
        if boxes[-1] is None:
            raise Unreadable("an unclosed \\boxed{}")
        boxed = _LABEL.fullmatch(plain(boxes[-1]))
    text = without_fonts(text)
    stated = list(_STATED.finditer(text))[-1:]
    letters = {match[1] for match in (boxed, *stated) if match}
    if any(match["second"] for match in stated):
        raise Unreadable("several choices")
    last_line = text.rstrip().rpartition("\n")[2]
    if not letters and (alone := _LABEL.fullmatch(last_line)):
        letters = {alone[1]}
    letters = letters or set(_BOLD.findall(text))
    if len(letters) != 1:
        raise Unreadable("several choices" if letters else "no choice")
    return letters.pop()


class Choice(Reader):
    name = "choice"
    canaries = (
        ("B", "The answer is (B).", CORRECT),
        ("(B)", "**Answer:** B) Paris", CORRECT),
        ("B", "A is wrong, C is wrong.\n\n**B**", CORRECT),
        ("D", "so \\boxed{\\text{(D)}}", CORRECT),
        ("B", "The answer is C", WRONG),
        ("B", "The answer is B or C.", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        match = re.fullmatch(r"\(?([A-J])\)?\.?", without_fonts(unify(answer)).strip("$ \n"))
        if match is None:
            raise Unreadable("the reference is not a letter from A to J")
        return match[1]

    def read(self, text: str) -> str:
        return read_choice(text)
