"""Reads numbers as people and models write them, exactly: `$1,234.50`, `-3/4`, `1.2 \\times 10^3`.

Every number becomes a Fraction, so that exactly the notations of the same value are equal. Currency
signs, percent signs and units are not part of the value (50% is 50). Digits of a power, a subscript
or a name (`m^2`, `x_{12}`, `H2O`) are not numbers, and a number with a power or a subscript (`2^3`,
`143_{12}`) cannot be read.
"""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 1000  # digits, or power of ten: longer numbers would take minutes to compute with


class Unreadable(ValueError):
    """A text has no readable answer. The messages are few and fixed, so they can be counted."""


_PLAIN = r"(?>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
# 1,234 but not the end of 10,20,300
_DIGITS = rf"(?>(?<![0-9],)[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?|{_PLAIN})"
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z_^0-9]) (?<![0-9]\.) (?<!\^[-+])       # no part of a name, a number, a power
    (?:(?<![\w)\]}}])(?P<sign>[-+]))? [$£€¥]? (?P<inner>(?<=[$£€¥])[-+])?
    (?> \\frac \s*\{{\s*(?P<top>[-+]?{_PLAIN})\s*\}} \s*\{{\s*(?P<bottom>[-+]?{_PLAIN})\s*\}}
      | \\frac \s*(?P<one>[0-9])\s*(?P<other>[0-9])
      | (?P<digits>{_DIGITS})
        (?: (?P<e>[eE][-+]?[0-9]++(?![A-Za-z]))
          | \s*(?:\\times|\\cdot|×|\*)\s*10\s*\^\s*(?P<ten>\{{\s*[-+]?[0-9]+\s*\}}|[-+]?[0-9]+) )?+
        (?: [ ]?/[ ]?(?P<over>{_DIGITS}) )?+
    )
    (?P<raised>\s*[_^])?+
    """,
    re.VERBOSE,
)
_SPACES = r"(?<=[0-9])(?:\{,\}|\\[,;! ]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))"


def whole(text: str, e_notation: bool = True) -> Fraction | None:
    """Returns the value of a text that is a single number; None for any other text.

    `e_notation`: read 1e3 as 1000; in bases above ten, E is a digit. Raises Unreadable for a
    number that cannot be compared.
    """
    text = _clean(text).strip().removesuffix(".").rstrip("%$ ").lstrip("$ ")
    match = _NUMBER.fullmatch(re.sub(r"^([-+])\s+", r"\1", text))
    if match is None or (match["e"] and not e_notation):
        return None
    return _value(match)


def every(text: str) -> list[Fraction]:
    """Returns the numbers in a text, in order. Raises Unreadable if any cannot be compared."""
    return [_value(match) for match in _NUMBER.finditer(_clean(text))]


def last(text: str) -> Fraction | None:
    """Returns the last number in a text, or None. Raises Unreadable if it cannot be compared."""
    matches = list(_NUMBER.finditer(_clean(text)))
    return _value(matches[-1]) if matches else None


def canonical(number: Fraction | None, otherwise: str) -> str:
    """Returns a value as text. Raises Unreadable with the message `otherwise` for None."""
    if number is None:
        raise Unreadable(otherwise)
    return str(number)


def _clean(text: str) -> str:
    """Normalises minus signs, groups of digits and LaTeX commands."""
    text = text.replace("\u2212", "-").replace("\\$", "$").replace("\\%", "%")
    text = re.sub(_SPACES, ",", text)
    text = re.sub(r"\\[dt]frac(?![A-Za-z])", r"\\frac", text)
    text = re.sub(r"(?<!10)([_^])\s*\{[^{}]*\}", r"\1", text)
    text = re.sub(r"([=(:\[{])\s*-\s+(?=[$.0-9])", r"\1 -", text)
    return re.sub(r"(\\(?!frac)[A-Za-z]+)(?=[.0-9])", r"\1 ", text)


def _value(match: re.Match[str]) -> Fraction:
    part = match.groupdict(default="")
    if part["raised"]:
        raise Unreadable("a number with a power or a subscript")
    above = (part["top"] or part["one"] or part["digits"]).replace(",", "")
    below = (part["bottom"] or part["other"] or part["over"] or "1").replace(",", "")
    power = int((part["e"][1:] or part["ten"].strip("{} ") or "0")[:9])
    if max(len(above), len(below), abs(power)) > LONGEST:
        raise Unreadable("a number too long to compare")
    if not Fraction(below):
        raise Unreadable("a fraction over zero")
    sign = -1 if (part["sign"] == "-") != (part["inner"] == "-") else 1
    return sign * Fraction(above) / Fraction(below) * Fraction(10) ** power
