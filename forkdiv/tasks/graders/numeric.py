"""Compares numbers: the last number of a response, or the number after the mark `####`."""

from __future__ import annotations

from forkdiv.tasks.graders import numbers
from forkdiv.tasks.graders.base import CORRECT, UNPARSABLE, WRONG, Reader
from forkdiv.tasks.graders.numbers import Unreadable


def _reference(answer: str) -> str:
    number = numbers.whole(answer.rpartition("####")[2])
    return numbers.canonical(number.value if number else None, "the reference is not a number")


class Numeric(Reader):
    name = "numeric"
    version = 2
    canaries = (
        ("18", "She makes 9 * 2 = $18.00.", CORRECT),
        ("1,234", "that is 1234", CORRECT),
        ("-3", "It is \u22123 degrees", CORRECT),
        ("5/2", "it takes 2\u00bd hours", CORRECT),
        ("18", "first 18, then 19", WRONG),
        ("8", "It is \uff0d8", WRONG),
        ("1000000000000000000001", "1000000000000000000000", WRONG),
        ("18", "eighteen", UNPARSABLE),
        ("8", "It is 8\u00b2", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        """Accepts a number, or a whole solution with the mark `####`."""
        return _reference(answer)

    def read(self, text: str) -> str:
        return numbers.canonical(numbers.last(text), "no number")


class Hash(Reader):
    name = "hash"
    version = 2
    canaries = (
        ("18", "16 - 7 = 9\n#### 18", CORRECT),
        ("1200", "#### $1,200.00\nNext question: 7", CORRECT),
        ("2 + 2 = 4\n#### 4", "#### 3\nno:\n#### 4", CORRECT),
        ("18", "The 18 of\n#### 19", WRONG),
        ("18", "The answer is 18", UNPARSABLE),
        ("18", "#### 18 or 19", UNPARSABLE),
    )

    def reference(self, answer: str) -> str:
        """Accepts a number, or a whole solution with the mark `####`."""
        return _reference(answer)

    def read(self, text: str) -> str:
        _, mark, rest = text.rpartition("####")
        if not mark:
            raise Unreadable("no ####")
        values = set(numbers.every(rest.strip().partition("\n")[0]))
        if len(values) > 1:
            raise Unreadable("several numbers after ####")
        return numbers.canonical(next(iter(values), None), "no number after ####")
