"""Equivalence of mathematical answers: read as `forkdiv.tasks.graders.answers` describes, formulas
compared by math-verify."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from forkdiv.core.records import Verdict
from forkdiv.tasks.graders.algebra_process import AlgebraProcess
from forkdiv.tasks.graders.answers import Answer, read, same
from forkdiv.tasks.graders.base import ANOTHER, CORRECT, UNPARSABLE, WRONG, own_identity
from forkdiv.tasks.graders.final_answer import SHORT, final_answer
from forkdiv.tasks.graders.latex import has_box, last_box
from forkdiv.tasks.graders.numbers import Unreadable


class Math:
    """Equivalence of answers. Values, texts and items are compared here, formulas by math-verify in
    a process of its own."""

    name = "math"
    version = 2
    libraries = ("math-verify", "latex2sympy2_extended", "sympy")
    canaries = (
        ("\\frac{1}{2}", "so \\boxed{0.5}", CORRECT),
        ("x^2+2x+1", "Hence $(x+1)^2$.", CORRECT),
        ("840", "We get \\boxed{12}. No: \\boxed{840}", CORRECT),
        ("18", "\\boxed{19}", WRONG),
        ("\\sqrt{8}", "\\boxed{3\\sqrt{2}}", WRONG),
        ("18", "I do not know.", UNPARSABLE),
        ("5", "\\boxed{9^{9^{9^{9}}}}", UNPARSABLE),
    )

    def __init__(self) -> None:
        self._algebra = AlgebraProcess()
        self._references = lru_cache(maxsize=1024)(_reference)

    def identity(self) -> dict[str, Any]:
        return own_identity(Math, self.version, self.libraries)

    def reference(self, answer: str) -> str:
        return str(self._references(answer))

    def grade(self, answer: str, text: str) -> Verdict:
        """Raises RuntimeError if the process of math-verify ends; no text of a response ends it."""
        expected = self._references(answer)
        try:
            actual = final_answer(text)
            equal = self._equal(expected, actual)
        except Unreadable as reason:
            return Verdict(UNPARSABLE, None, str(reason))
        return Verdict(CORRECT, str(expected)) if equal else Verdict(WRONG, str(actual), ANOTHER)

    def _equal(self, expected: Answer, actual: Answer) -> bool:
        try:
            return same(expected, actual, _undecided)
        except _Undecided:
            return self._algebra.equal(expected, actual)


class _Undecided(Exception):
    """The answers differ in formulas."""


def _undecided(expected: str, actual: str) -> bool:
    raise _Undecided


def _reference(answer: str) -> Answer:
    """Accepts an answer, or a whole solution with a box or with `####`."""
    if has_box(answer):
        return read(last_box(answer))
    content = answer.rpartition("####")[2]
    if len(content.strip()) > SHORT and len(content.split()) > SHORT // 10:
        raise Unreadable("the reference is a long text without \\boxed{} or ####")
    return read(content)
