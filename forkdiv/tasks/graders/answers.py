r"""Reads the answer in a box, a `#### ` line or a column of references: one reader for both sides.

10,\!080 · \$36 · 2\frac{1}{2} · 90^\circ            a value
2516_8                                               digits of a base
(3, \frac{\pi}{2}) · [0, 1) · \{1, 2\} · 3, 5, 7     items
\begin{pmatrix} 1 \\ 2 \end{pmatrix}                 rows of items
x = 5 · y = 2x + 3                                   an equation
\text{Evelyn} · (B)                                  a text
x^2 + 1                                              a formula
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from forkdiv.tasks.graders import numbers
from forkdiv.tasks.graders.notation import latex, without_fonts
from forkdiv.tasks.graders.numbers import Unreadable
from forkdiv.tasks.graders.units import is_unit

LONGEST = 4000  # characters of an answer
DEEPEST = 8  # brackets within brackets that are read as items; deeper ones are text
UNORDERED = frozenset({"{}", ",", "∪"})

_BASE = re.compile(
    r"\(?([0-9A-Za-z]+)\)?\s*(?:_\s*(?:\{\s*(?:\\text\{)?([a-z]+|[0-9]{1,2})\}?\s*\}|([0-9]))"
    r"|(?:\\text\{)?[ (]*base\s*[-}]?\s*([a-z]+|[0-9]{1,2})[ )]*\}?)"
)
_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16,
}  # fmt: skip
_MATRIX = re.compile(
    r"\\begin\{([pbBvV]?matrix|array|smallmatrix)\}(?:\{[lcr|\s]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_ARGUMENT = r"\([^()]{1,9}\)"
_NAME = rf"\\?[A-Za-z]+(?:\s*_\s*(?:\{{[^{{}}]*\}}|\w))?(?:\^\{{-1\}})?(?:{_ARGUMENT})?"
_EQUATION = re.compile(rf"({_NAME}|\([^()]*\))\s*(?:=|\\in(?![a-z])|:=)\s*(.+)", re.DOTALL)
_AND = re.compile(
    r"\s*(?:,|;)?\s*(?:\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<=\s)(?:and|or)(?=\s))\s*"
)
_WORDS = re.compile(r"[^\W\d_]+(?:[\s'-]+[^\W\d_]+)*[.!]?")
_LETTER = re.compile(r"\(([A-Z])\)|\(?([A-Z])\)(?:\s.*)?|([A-Z])[.:]\s.+", re.DOTALL)
_RATIO = re.compile(r"[0-9.]+(?:\s*:\s*[0-9.]+)+(?:\s*[ap]\.?m\.?)?", re.IGNORECASE)
_UNIT = re.compile(
    r"(?:\s*\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|(?<![A-Za-z\\])\s+[A-Za-z]{2,})[\s^{}0-9]*$"
)
_IN_FONT = re.compile(r"\\text[a-z]*\s*\{([^{}]*)\}")
_SHORT_WORDS = frozenset({"yes", "no", "odd", "all", "none"})
_RELATION = re.compile(r"[<>=]|\\(?:leq|geq|lt|gt|neq)(?![a-z])")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|log|ln)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer by its parts.

    `kind` is `value`, `base`, `text`, `formula`, `=` (name and value), `matrix` (rows of the width
    `text`), or the brackets around its items: `()`, `[)`, `{}`, `,` without any, `∪` for a union.
    `text` is what is compared if there are no items; `name` is the left side of an equation.
    """

    kind: str
    text: str = ""
    items: tuple[Answer, ...] = ()
    percent: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        """The canonical form: equal for equal answers, as far as that needs no algebra."""
        if self.kind in ("value", "base", "text", "formula"):
            return self.text
        items = [str(item) for item in self.items]
        if self.kind in UNORDERED:
            items.sort()
        if self.kind == "=":
            return f"{self.text}={items[0]}"
        if self.kind == "∪":
            return "∪".join(items)
        if self.kind == "matrix":
            return f"matrix of {self.text}: {','.join(items)}"
        return (
            ",".join(items) if self.kind == "," else self.kind[0] + ",".join(items) + self.kind[-1]
        )


def read(content: str, e_notation: bool = True) -> Answer:
    """Reads an answer that has nothing around it.

    `e_notation`: read 1E3 as 1000; in bases above ten, E is a digit. Raises Unreadable for an empty
    answer, one too long to compare, and a number that cannot be compared.
    """
    text = numbers.unwrapped(latex(content))
    if not plain(text):
        raise Unreadable("an empty answer")
    if len(text) > LONGEST:
        raise Unreadable("an answer too long to compare")
    return _read(text, e_notation, 0)


def _read(text: str, e_notation: bool, depth: int) -> Answer:
    text = re.sub(r"^(?:\\approx|\\therefore|=)\s*", "", numbers.unwrapped(text)).strip(" ,;:")
    if match := _IN_FONT.fullmatch(text):
        text = match[1].strip()
        if _WORDS.fullmatch(text):
            return Answer("text", " ".join(text.split()).rstrip(".!"))
    text = "(-\\infty,\\infty)" if text == "ℝ" else re.sub(r"^\+\s*", "", text)
    if (leaf := _value(text, e_notation)) or depth > DEEPEST:
        return leaf or Answer("formula", plain(text))
    for shape in (_matrix, _union, _list, _bracketed, _plus_minus, _equation):
        if answer := shape(text, e_notation, depth):
            return answer
    return _text_or_formula(text)


def _value(text: str, e_notation: bool) -> Answer | None:
    if number := numbers.whole(text, e_notation):
        return Answer("value", str(number.value), percent=number.percent)
    if not (match := _BASE.fullmatch(text)):
        return None
    digits, name = match[1].upper(), match[2] or match[3] or match[4]
    base = int(name) if name.isdecimal() else _BASES.get(name, 0)
    if not re.search("[0-9]", digits) or max(int(digit, 36) for digit in digits) >= base:
        return None  # x_1 is a name
    return Answer("base", f"{digits.lstrip('0') or '0'}_{base}")


def _matrix(text: str, e_notation: bool, depth: int) -> Answer | None:
    if not (match := _MATRIX.fullmatch(re.sub(r"^[(\[]\s*(\\begin.*)[)\]]$", r"\1", text).strip())):
        return None
    rows = [row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?", match[2]) if row.strip()]
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    items = tuple(_read(cell, e_notation, depth + 1) for row in rows for cell in row)
    bars = "|" if match[1] in ("vmatrix", "Vmatrix") else ""
    return Answer("matrix", f"{bars}{len(rows[0])}", items)


def _union(text: str, e_notation: bool, depth: int) -> Answer | None:
    parts = split(text, re.compile(r"\\cup(?![a-z])"))
    if len(parts) < 2:
        return None
    return Answer("∪", "", tuple(_read(part, e_notation, depth + 1) for part in parts))


def _list(text: str, e_notation: bool, depth: int) -> Answer | None:
    """Reads `3, 5, 7` and `1 or 2`."""
    parts = [part for piece in split(text, _AND) for part in _by_commas(piece)]
    if len(parts) < 2:
        return None
    if any(not part.strip() for part in parts) or _is_prose(text):
        return None
    return Answer(",", "", _items(_both_signs(parts), e_notation, depth))


def _plus_minus(text: str, e_notation: bool, depth: int) -> Answer | None:
    """Reads `1 \\pm \\sqrt{2}`."""
    parts = _both_signs([text])
    return Answer(",", "", _items(parts, e_notation, depth)) if len(parts) > 1 else None


_PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_COMMA = re.compile("[,;]")


def _both_signs(parts: Sequence[str]) -> list[str]:
    """Returns the items of a list; one with `\\pm` is two."""
    texts: list[str] = []
    for part in parts:
        twice = len(_PLUS_MINUS.findall(part)) == 1
        texts += [_PLUS_MINUS.sub(sign, part) for sign in "+-"] if twice else [part]
    return texts


def _items(parts: Sequence[str], e_notation: bool, depth: int) -> tuple[Answer, ...]:
    return tuple(_read(part, e_notation, depth + 1) for part in parts)


def _by_commas(text: str) -> list[str]:
    """Splits at commas; if some have a space behind them, those between three digits group them."""
    if re.search(r",\s", text):
        text = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)
    return split(text, _COMMA)


def _bracketed(text: str, e_notation: bool, depth: int) -> Answer | None:
    if text == "\\emptyset":
        return Answer("{}")
    for opening, closing, kind in _BRACKETS:
        if text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : len(text) - len(closing)]
            if not _encloses(text, opening, closing):
                continue
            if kind == "{}" and not inner.strip():
                return Answer("{}")
            parts = _by_commas(inner)
            if (len(parts) < 2 and kind != "{}") or any(not part.strip() for part in parts):
                return None
            items = _both_signs(parts) if kind == "{}" else parts
            return Answer(kind, "", _items(items, e_notation, depth))
    return None


_BRACKETS = [("\\{", "\\}", "{}"), ("⟨", "⟩", "⟨⟩")]
_BRACKETS += [(opening, closing, opening + closing) for opening in "([" for closing in ")]"]


def _equation(text: str, e_notation: bool, depth: int) -> Answer | None:
    """Reads `x = 5`; of a chain such as `x = 2 + 3 = 5`, the last side counts."""
    if not (match := _EQUATION.fullmatch(text)) or re.search(r"[<>]|\\[lg]eq|\\neq", text):
        return None
    value = _read(match[2].rpartition("=")[2], e_notation, depth + 1)
    return Answer("=", plain(match[1]), (value,))


def _text_or_formula(text: str) -> Answer:
    bare = without_fonts(text)
    if match := _LETTER.fullmatch(bare.strip()):
        return Answer("text", match[1] or match[2] or match[3])
    words = " ".join(bare.replace("$", "").split())
    if _RATIO.fullmatch(words):
        return Answer("text", re.sub(r"\s*:\s*", ":", words))
    in_font = bare != text and not re.search(r"[\\^_=+]", bare)
    is_word = re.search(r"[^\W\d_]{4}", words) or words.lower() in _SHORT_WORDS
    if _WORDS.fullmatch(words) and (in_font or is_word):
        return Answer("text", words.rstrip(".!"))
    unit = _UNIT.search(text)
    if unit and unit.start() and is_unit(unit[0]) and "\\text" not in text[: unit.start()]:
        text = text[: unit.start()]
    if not _FUNCTION.search(text):
        text = text.rstrip().removesuffix("°")
    return Answer("formula", plain(text))


def _is_prose(text: str) -> bool:
    return len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", without_fonts(text))) > 4


def plain(text: str) -> str:
    r"""Normalises a text that is not a number: no fonts, dollars or final full stop; `x^{2}` is
    `x^2`. Spaces between words remain, so that `1 2` does not become 12."""
    text = latex(text).replace("$", "")
    text = " ".join(without_fonts(text).split()).removesuffix(".")
    text = re.sub(r"\\frac\s*([0-9])\s*([0-9])(?![0-9])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<=[\^_])\s*\{\s*(\w)\s*\}", r"\1", text)
    return re.sub(r"(?<!\w) | (?!\w)", "", text)


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Splits at separators outside of all brackets and braces."""
    parts, start, depth = [], 0, 0
    at = 0
    while at < len(text):
        if depth == 0 and (match := separator.match(text, at)) and match.end() > at:
            parts.append(text[start:at])
            start = at = match.end()
            continue
        if text[at] == "\\":
            depth += {"{": 1, "}": -1}.get(text[at + 1 : at + 2], 0)
            at += 2
            continue
        depth += (text[at] in "([{⟨") - (text[at] in ")]}⟩")
        depth = max(depth, 0)
        at += 1
    return [*parts, text[start:]]


def _encloses(text: str, opening: str, closing: str) -> bool:
    """Returns whether the first bracket is closed by the last."""
    inner = text[len(opening) : len(text) - len(closing)]
    depth = 0
    for match in re.finditer(r"\\?([(\[{⟨]|[)\]}⟩])", inner):
        depth += 1 if match[1] in "([{⟨" else -1
        if depth < 0:
            return False
    return depth == 0


def same(expected: Answer, actual: Answer, equal: Callable[[str, str], bool]) -> bool:
    """Returns whether two answers are equal; `equal` decides it for two formulas.

    An equation is equal to its right side, a percentage to its value over 100, digits of a base to
    the same digits without the base. The order counts except in sets and lists.
    """
    if str(expected) == str(actual):
        return True
    if (_is_relation(expected) and actual.kind != "text") or _is_relation(actual):
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
