r"""Equality of two formulas, by math-verify. Imported only in the process that it runs in: sympy
takes seconds to load, and a formula can take any time and memory.

Decimals become fractions before math-verify reads them: it compares floats after rounding to six
places, so that 1.6e-19 and 1.7e-19 would be equal. For the same reason an equality that it finds is
checked at a point, with enough digits.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

from forkdiv.tasks.graders.answers import Answer, same

LARGEST = 10_000  # digits of a power; sympy would compute the whole number
DIGITS = 30

# it warns that its own time limit is off; the process that imports this module has one
logging.getLogger("math_verify").setLevel(logging.ERROR)

_DECIMAL = re.compile(r"(?<![0-9.])[0-9]*\.[0-9]+(?![0-9.])")
_MIXED = re.compile(r"(?<![0-9A-Za-z}])([0-9]+)\s*\\frac\{([0-9]+)\}\{([0-9]+)\}")
_LATEX = [LatexExtractionConfig()]
_VALUES = (sympy.Rational(7, 5), sympy.Rational(23, 11), sympy.Rational(5, 17))


class Incomparable(Exception):
    """A formula of a response that cannot be read or is too large to compute."""


def equal_answers(expected: Answer, actual: Answer) -> bool:
    """Returns whether the answers are equal. Raises Incomparable because of the response."""
    return same(expected, actual, equal)


def equal(expected: str, actual: str) -> bool:
    """Returns whether two formulas are equal; a reference that is not mathematics is equal to no
    other text."""
    if _cases(expected) != _cases(actual) or _words(expected) != _words(actual):
        return False
    first = _expression(expected)
    if first is None:
        return False
    second = _expression(actual)
    if second is None:
        raise Incomparable("math-verify finds no mathematics")
    found = verify(
        first, second, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True
    )
    return bool(found) and _equal_at_a_point(first, second)


def _cases(text: str) -> frozenset[str]:
    """Returns the variables in upper case; math-verify reads x and X as the same variable."""
    return frozenset(re.findall(r"(?<![A-Za-z\\])[A-Z](?![A-Za-z])", text))


def _words(text: str) -> frozenset[str]:
    """Returns the words of a formula; math-verify leaves them out, so that 1 hour is 1 minute."""
    return frozenset(re.findall(r"(?<![A-Za-z\\])[A-Za-z]{4,}", text))


def _expression(text: str) -> Any:
    text = _MIXED.sub(lambda match: _mixed(*match.groups()), _DECIMAL.sub(_fraction, text))
    parsed = parse(f"${text}$", _LATEX, parsing_timeout=None, raise_on_error=True)
    expression = next((item for item in parsed if not isinstance(item, str)), None)
    if isinstance(expression, sympy.Basic):
        _check_size(expression)
        names = {symbol.name: symbol for symbol in expression.free_symbols}
        if "i" in names:  # math-verify takes i for a variable
            expression = expression.subs(names["i"], sympy.I)
    return expression


def _fraction(match: re.Match[str]) -> str:
    value = sympy.Rational(f"0{match[0]}")
    return f"\\frac{{{value.p}}}{{{value.q}}}"


def _mixed(units: str, top: str, bottom: str) -> str:
    return f"\\frac{{{int(units) * int(bottom) + int(top)}}}{{{bottom}}}"


def _check_size(expression: sympy.Basic) -> None:
    for power in expression.atoms(sympy.Pow):
        base, exponent = power.as_base_exp()
        if base.is_number and exponent.is_number:
            size = abs(sympy.N(exponent, 5)) * sympy.log(abs(sympy.N(base, 5)) + 2, 10)
            if not size.is_number or not size < LARGEST:
                raise Incomparable("a power that is too large")


def _equal_at_a_point(first: Any, second: Any) -> bool:
    """Returns False if two expressions differ where the variables have some value. Sets, matrices
    and relations, and what has no value there, are left to math-verify."""
    if not (isinstance(first, sympy.Expr) and isinstance(second, sympy.Expr)):
        return True
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    point = {symbol: _VALUES[at % 3] + at // 3 for at, symbol in enumerate(symbols)}
    values = [sympy.N(side.subs(point).doit(), DIGITS) for side in (first, second)]
    if not all(value.is_number and value.is_finite for value in values):
        return True
    difference, size = abs(values[0] - values[1]), max(map(abs, values))
    return bool(difference <= size * sympy.Float(10) ** (10 - DIGITS))
