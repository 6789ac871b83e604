r"""Chains of equations over one root variable: told forwards, told backwards, and checked.

Every line can be checked by itself against the equations and the line before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_STEP = re.compile(r"(?<![A-Za-z0-9_])([a-z][0-9]?)\s*=\s*(?:[a-z][0-9]?|-?[0-9]+)\s*[-+\u2212]")
_LINE = re.compile(r"[0-9]+\. ([a-z][0-9]?) = ")

# What check says of a trace that is not right.
NO_STEP = "does not begin at a child of the root, or at the target"
NO_EQUATION = "a step is no equation of the problem"
NO_LINK = "a step does not follow from the one before it"
MISTAKE = "a step is miscalculated or misnumbered"
OTHER_END = "the steps end in another variable"
OTHER_ANSWER = "the answer is not what the steps give"


class Equation(NamedTuple):
    """`variable = parent operation constant`, as in y = p + 15."""

    variable: str
    parent: str
    operation: str
    constant: int

    @property
    def change(self) -> int:
        return self.constant if self.operation == "+" else -self.constant

    def __str__(self) -> str:
        return f"{self.variable} = {self.parent} {self.operation} {self.constant}"


class System:
    """A problem's equations with its root, the root's value and the target."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.root: str = facts["root"]
        self.value: int = facts["value"]
        self.target: str = facts["target"]
        self.by_variable = {row[0]: Equation(*row) for row in facts["equations"]}

    @property
    def first_steps(self) -> list[str]:
        """The variables to choose from at the root, sorted."""
        return sorted(one.variable for one in self.by_variable.values() if one.parent == self.root)

    def chain(self, end: str) -> list[Equation]:
        """The equations from the root to `end`, in that order."""
        chain = []
        while end != self.root:
            chain.append(self.by_variable[end])
            end = chain[-1].parent
        return chain[::-1]

    def ends(self) -> dict[str, int]:
        """The value of the last variable of every chain."""
        parents = {one.parent for one in self.by_variable.values()}
        return {
            name: self.value + sum(one.change for one in self.chain(name))
            for name in self.by_variable
            if name not in parents
        }

    def first_step(self, text: str) -> re.Match[str] | None:
        """The first equation with an operation in it, group 1 its left variable."""
        return next((m for m in _STEP.finditer(text) if m[1] in self.by_variable), None)

    def forward(self) -> str:
        """From the root to the target, a value a line."""
        value, lines = self.value, []
        for number, step in enumerate(self.chain(self.target), 1):
            value += step.change
            lines.append(_forward_line(number, step, value))
        return "\n".join([*lines, _answer_line(value)])

    def reverse(self) -> str:
        """From the target to the root, by substitution: every step is determined."""
        first, *others = reversed(self.chain(self.target))
        lines = [f"1. {first}."]
        offset = first.change
        for number, step in enumerate(others, 2):
            lines.append(self._substitution(number, step, offset))
            offset += step.change
        lines.append(self._insertion(len(lines) + 1, offset))
        return "\n".join([*lines, _answer_line(self.value + offset)])

    def check(self, text: str) -> str | None:
        """What is not right about a trace, in one of a few fixed texts; None where every line
        of it is right. Stricter than a verdict, which reads the answer alone."""
        first = _LINE.match(text)
        *lines, answer = text.split("\n")
        if first and first[1] == self.target:
            return self._check_reverse(lines, answer)
        if first and first[1] in self.first_steps:
            return self._check_forward(lines, answer)
        return NO_STEP

    def _check_forward(self, lines: Iterable[str], answer: str) -> str | None:
        at, value = self.root, self.value
        for number, line in enumerate(lines, 1):
            step = self._step(line)
            if step is None:
                return NO_EQUATION
            if step.parent != at:
                return NO_LINK
            at, value = step.variable, value + step.change
            if line != _forward_line(number, step, value):
                return MISTAKE
        if at != self.target:
            return OTHER_END
        return None if answer == _answer_line(value) else OTHER_ANSWER

    def _check_reverse(self, lines: list[str], answer: str) -> str | None:
        at, offset = self.target, 0
        for number, line in enumerate(lines[:-1], 1):
            step = self._step(line)
            if step is None:
                return NO_EQUATION
            if step.variable != at:
                return NO_LINK
            told = f"1. {step}." if number == 1 else self._substitution(number, step, offset)
            if line != told:
                return MISTAKE
            at, offset = step.parent, offset + step.change
        if at != self.root:
            return OTHER_END
        if lines[-1] != self._insertion(len(lines), offset):
            return MISTAKE
        return None if answer == _answer_line(self.value + offset) else OTHER_ANSWER

    def _step(self, line: str) -> Equation | None:
        """The equation of the problem that a line begins with."""
        named = _LINE.match(line)
        step = self.by_variable.get(named[1]) if named else None
        return step if step and str(step) in line else None

    def _substitution(self, number: int, step: Equation, offset: int) -> str:
        own = f"{step.parent} {step.operation} {step.constant}"
        both = f"{step.parent} {_term(offset + step.change)}"
        return f"{number}. {step}, so {self.target} = {own} {_term(offset)} = {both}."

    def _insertion(self, number: int, offset: int) -> str:
        total = f"{self.value} {_term(offset)} = {self.value + offset}"
        return f"{number}. {self.root} = {self.value}, so {self.target} = {total}."


def _forward_line(number: int, step: Equation, value: int) -> str:
    return f"{number}. {step} = {value}."


def _answer_line(value: int) -> str:
    return rf"The answer is \boxed{{{value}}}."


def _term(number: int) -> str:
    return f"- {-number}" if number < 0 else f"+ {number}"
