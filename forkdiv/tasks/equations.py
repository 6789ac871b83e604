r"""Chains of equations over a root variable: forward and reverse traces, and their check.

Every line can be checked against the equations and the previous line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_STEP = re.compile(r"(?<![A-Za-z0-9_])([a-z][0-9]?)\s*=\s*(?:[a-z][0-9]?|-?[0-9]+)\s*[-+\u2212]")
_LINE = re.compile(r"[0-9]+\. ([a-z][0-9]?) = ")

# The errors that `check` reports.
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
        """The variables defined by the root, sorted: the branches of the fork."""
        equations = self.by_variable.values()
        return sorted(equation.variable for equation in equations if equation.parent == self.root)

    def chain(self, end: str) -> list[Equation]:
        """Returns the equations from the root to `end`, in that order."""
        chain = []
        while end != self.root:
            chain.append(self.by_variable[end])
            end = chain[-1].parent
        return chain[::-1]

    def ends(self) -> dict[str, int]:
        """Returns the value of the last variable of every chain."""
        parents = {equation.parent for equation in self.by_variable.values()}
        return {
            name: self.value + sum(equation.change for equation in self.chain(name))
            for name in self.by_variable
            if name not in parents
        }

    def first_step(self, text: str) -> re.Match[str] | None:
        """Returns the match of the first equation with an operation; group 1 is its variable."""
        return next((m for m in _STEP.finditer(text) if m[1] in self.by_variable), None)

    def forward(self) -> str:
        """Returns the trace from the root to the target, with one value per line."""
        value, lines = self.value, []
        for number, step in enumerate(self.chain(self.target), 1):
            value += step.change
            lines.append(_forward_line(number, step, value))
        return "\n".join([*lines, _answer_line(value)])

    def reverse(self) -> str:
        """Returns the trace from the target to the root by substitution; every step is
        determined."""
        first, *others = reversed(self.chain(self.target))
        lines = [f"1. {first}."]
        offset = first.change
        for number, step in enumerate(others, 2):
            lines.append(self._substitution(number, step, offset))
            offset += step.change
        lines.append(self._insertion(len(lines) + 1, offset))
        return "\n".join([*lines, _answer_line(self.value + offset)])

    def check(self, text: str) -> str | None:
        """Returns the first error of a trace as one of a few fixed texts, or None if every line is
        right. Stricter than a verdict, which checks the answer only."""
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
            expected = f"1. {step}." if number == 1 else self._substitution(number, step, offset)
            if line != expected:
                return MISTAKE
            at, offset = step.parent, offset + step.change
        if at != self.root:
            return OTHER_END
        if lines[-1] != self._insertion(len(lines), offset):
            return MISTAKE
        return None if answer == _answer_line(self.value + offset) else OTHER_ANSWER

    def _step(self, line: str) -> Equation | None:
        """Returns the equation of the problem at the beginning of a line, or None."""
        match = _LINE.match(line)
        step = self.by_variable.get(match[1]) if match else None
        return step if step and str(step) in line else None

    def _substitution(self, number: int, step: Equation, offset: int) -> str:
        inserted = f"{step.parent} {step.operation} {step.constant}"
        simplified = f"{step.parent} {_term(offset + step.change)}"
        return f"{number}. {step}, so {self.target} = {inserted} {_term(offset)} = {simplified}."

    def _insertion(self, number: int, offset: int) -> str:
        total = f"{self.value} {_term(offset)} = {self.value + offset}"
        return f"{number}. {self.root} = {self.value}, so {self.target} = {total}."


def _forward_line(number: int, step: Equation, value: int) -> str:
    return f"{number}. {step} = {value}."


def _answer_line(value: int) -> str:
    return rf"The answer is \boxed{{{value}}}."


def _term(number: int) -> str:
    return f"- {-number}" if number < 0 else f"+ {number}"
