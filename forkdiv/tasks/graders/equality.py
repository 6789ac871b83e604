"""Whether two answers are equal, part by part."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from forkdiv.tasks.graders.answers import UNORDERED, Answer

_RELATION = re.compile(r"[<>=]|\\(?:leq|geq|lt|gt|neq)(?![a-z])")


def same(expected: Answer, actual: Answer, equal: Callable[[str, str], bool]) -> bool:
    """Returns whether two answers are equal; `equal` decides it for two formulas.

    An equation is equal to its right side, a percentage to its value over 100, digits of a base to
    the same digits without the base. The order counts except in sets and lists.
    """
    if str(expected) == str(actual):
        return True
    relations = _is_relation(expected) + _is_relation(actual)
    if relations:
        others = [side for side in (expected, actual) if not _is_relation(side)]
        if any(not side.items for side in others):
            return False  # 2x + 3 = 5 is not 5
        return equal(str(expected), str(actual))
    if "=" in (expected.kind, actual.kind):
        return _same_equations(expected, actual, equal)
    if expected.items or actual.items:
        return _same_items(expected, actual, equal)
    kinds = {expected.kind, actual.kind}
    if "text" in kinds:
        return _letters(expected.text) == _letters(actual.text)
    if "base" in kinds:
        first, second = expected.text.partition("_"), actual.text.partition("_")
        return first[0] == second[0] and not (first[2] and second[2])
    if kinds == {"value"}:
        return expected.percent != actual.percent and _ratio(expected, actual) == 100
    return equal(expected.text, actual.text)


def _is_relation(answer: Answer) -> bool:
    return answer.kind == "formula" and _RELATION.search(answer.text) is not None


def _letters(text: str) -> str:
    return re.sub(r"[\s'-]+", " ", text).casefold() if len(text) > 1 else text


def _ratio(expected: Answer, actual: Answer) -> Fraction | None:
    whole, part = (expected, actual) if expected.percent else (actual, expected)
    return Fraction(whole.text) / Fraction(part.text) if Fraction(part.text) else None


def _same_equations(expected: Answer, actual: Answer, equal: Callable[[str, str], bool]) -> bool:
    if expected.kind == actual.kind:
        return expected.text == actual.text and same(expected.items[0], actual.items[0], equal)
    first = expected.items[0] if expected.kind == "=" else expected
    second = actual.items[0] if actual.kind == "=" else actual
    return same(first, second, equal)


def _same_items(expected: Answer, actual: Answer, equal: Callable[[str, str], bool]) -> bool:
    for one, other in ((expected, actual), (actual, expected)):
        if one.kind == "{}" and len(one.items) == 1 and not other.items:
            pair = (one.items[0], other) if one is expected else (other, one.items[0])
            return same(*pair, equal)
    kinds = {expected.kind, actual.kind}
    if len(kinds) > 1 and kinds != {"{}", ","}:
        return False
    if expected.text != actual.text or len(expected.items) != len(actual.items):
        return False
    if expected.kind not in UNORDERED:
        pairs = zip(expected.items, actual.items, strict=True)
        return all(same(first, second, equal) for first, second in pairs)
    rest = list(actual.items)
    for item in expected.items:
        match = next((other for other in rest if same(item, other, equal)), None)
        if match is None:
            return False
        rest.remove(match)
    return True
