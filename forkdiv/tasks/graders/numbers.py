r"""Reads numbers as people and models write them, exactly: `$1,234.50`, `-3/4`, `2 1/2`, `2½`,
`1.2 \times 10^3`, `0.\overline{3}`, `3 million`.

Every number becomes a Fraction, so that exactly the notations of the same value are equal. Currency
signs, percent signs and units are not part of the value (50% is 50). A number that is part of
something else cannot be read: of a power (`2^3`), a product (`8\pi`, `3 * 4`), a root, a fraction,
a time (`3:30`), a name (`x_{12}`, `H2O`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from forkdiv.tasks.graders.formulas import in_script, part_of
from forkdiv.tasks.graders.notation import latex
from forkdiv.tasks.graders.units import is_unit

LONGEST = 1000  # digits, or power of ten: longer numbers would take minutes to compute with
LAST_SCRIPTS = 500  # numbers at the end of a text that may all be powers or subscripts
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}

_LETTER = r"A-Za-z\u00c0-\u04ff"
_CURRENCY = "[$£€¥₹₩₽₪₺฿]"
# 1,234 · 12,34,567 · 1 234 · 1'234 · 1.234.567,8 · 12.5, but not the end of 10,20,30
_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?"
_INDIAN = r"[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?![0-9])(?:\.[0-9]+)?"
_SPACED = r"[0-9]{1,3}(?:\ [0-9]{3})+(?![0-9])(?:\.[0-9]+|,[0-9]{1,2})?"
_SWISS = r"[0-9]{1,3}(?:'[0-9]{3})+(?![0-9])(?:\.[0-9]+)?"
_CONTINENTAL = r"[0-9]{1,3}(?:(?:\.[0-9]{3}){2,}(?![0-9])(?:,[0-9]+)?|\.[0-9]{3},[0-9]+)"
_CONTINENTAL_DIGITS = re.compile(rf"{_CONTINENTAL}|[0-9]+,[0-9]{{1,2}}")
_PLAIN = r"(?>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_COMMAS = rf"(?<![0-9],)(?:{_GROUPED}|{_INDIAN})"
_DIGITS = rf"(?>{_COMMAS}|{_CONTINENTAL}|{_SPACED}|{_SWISS}|{_PLAIN})"
_INTEGER = r"(?>[0-9]{1,3}(?:[,'][0-9]{3})+(?![0-9])|[0-9]+)"
_SIMPLE = rf"(?>{_GROUPED}|{_PLAIN})"
_FRAC = rf"""\\frac \s* (?: (?P<one>[0-9]) \s* (?P<other>[0-9])
      | (?: \{{\s*(?P<top>[-+]?\$?{_SIMPLE})\s*\}} | (?P<short>[0-9]) ) \s*
        (?: \{{\s*(?P<bottom>[-+]?{_SIMPLE})\s*\}} | (?P<tiny>[0-9]) ) )"""
_NUMBER = re.compile(
    rf"""
    (?<![{_LETTER}_^0-9]) (?<![0-9]\.) (?<!\^[-+])       # no part of a name, a number, a power
    (?: (?<![{_LETTER}0-9_)\]}}]) (?: (?P<sign>[-+]) | (?P<minus>(?i:minus|negative))\s+ ) )?
    (?:{_CURRENCY}\ ?)? (?P<inner>(?<=[$£€¥])[-+])?
    (?> (?: (?P<units>{_INTEGER})
            (?> \s?(?=\\frac) | [ ]+(?:(?:and|&)\ )?(?=[0-9]+\ ?/\ ?[0-9]) ) )?
        (?: {_FRAC} | (?P<over>{_DIGITS})\ ?/\ ?(?P<under>{_DIGITS}) )
      | (?P<repeated>[0-9]+\.[0-9]*|\.[0-9]+)
        (?: \\(?:overline|bar|dot)\s*\{{(?P<period>[0-9]+)\}} | \((?P<again>[0-9]+)\) )
      | (?P<digits>{_DIGITS})
        (?: (?P<e>[eE][-+]?[0-9]++(?![A-Za-z]))
          | \s*(?:\\times|\\cdot|\*|x)\s*10\s*(?:\^|\*\*)\s*
            (?P<ten>\{{\s*[-+]?[0-9]+\s*\}}|[-+]?[0-9]+) )?+
    )
    (?: \s?(?P<scale>(?i:{"|".join(SCALES)}))(?![A-Za-z]) )?+
    """,
    re.VERBOSE,
)
_CURRENCY_NAME = re.compile(r"([-+]?)\s*(?:(?:US|A|C)\$|Rs\.?|USD|EUR|GBP|INR)\s*(?=[-+.0-9\\])")
_FONT = re.compile(r"\\(?:text|math)[a-z]*\s*\{([-+0-9.,/\s]*[0-9][.,/%\s]*)\}")
_DELIMITED = re.compile(r"\$\$?([^$]*)\$\$?|\\\((.*)\\\)|\\\[(.*)\\\]|\*\*([^*]*)\*\*", re.DOTALL)


class Unreadable(ValueError):
    """A text has no readable answer. The messages are few and fixed, so they can be counted."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written: its value, and whether a percent sign follows it."""

    value: Fraction
    percent: bool = False


def whole(text: str, e_notation: bool = True) -> Number | None:
    """Returns the number that a text is, with its unit; None for any other text.

    `e_notation`: read 1E3 as 1000; in bases above ten, E is a digit. Raises Unreadable for a
    number that cannot be compared.
    """
    text = _CURRENCY_NAME.sub(r"\1", unwrapped(latex(text)), count=1)
    match = _NUMBER.match(re.sub(r"^([-+])\s+", r"\1", text))
    if match is None or (not e_notation and re.fullmatch(r"[0-9]+[eE][0-9]+", match[0])):
        return None
    rest = match.string[match.end() :]
    if rest.startswith("...") and "." in match[0]:
        return None  # 0.333... is not 0.333
    if (rest := rest.rstrip(" .$")) and not is_unit(rest):
        return None
    return Number(_value(match), rest.strip().startswith(("%", "percent")))


def unwrapped(text: str) -> str:
    r"""Returns a text without `$...$`, `\(...\)`, braces or parentheses around all of it, and
    without a final full stop."""
    for _ in range(8):
        text = re.sub(r"(?<!\.)\.$", "", text.strip()).rstrip()
        match = _DELIMITED.fullmatch(text) or _FONT.fullmatch(text)
        inner = next((part for part in match.groups() if part), "") if match else ""
        if not inner and re.fullmatch(r"\{[^{}]*\}|\([-+$]*[0-9./]+%?\)", text):
            inner = text[1:-1]
        if not inner:
            return text
        text = inner
    return text


def every(text: str) -> list[Fraction]:
    """Returns the numbers in a text, in order. Raises Unreadable if any cannot be compared."""
    text = _prepared(text)
    matches = [match for match in _NUMBER.finditer(text) if not in_script(match)]
    return [_standing_alone(match) for match in matches]


def last(text: str) -> Fraction | None:
    """Returns the last number in a text, or None. Raises Unreadable if it cannot be compared."""
    matches = list(_NUMBER.finditer(_prepared(text)))[-LAST_SCRIPTS:]
    number = next((match for match in reversed(matches) if not in_script(match)), None)
    return _standing_alone(number) if number else None


def canonical(number: Fraction | None, otherwise: str) -> str:
    """Returns a value as text. Raises Unreadable with the message `otherwise` for None."""
    if number is None:
        raise Unreadable(otherwise)
    return str(number)


def _prepared(text: str) -> str:
    # "x = - 3" is a negative number; "- 3" at the start of a line is an item of a list
    text = re.sub(r"(?<![A-Za-z])(?:US|AU|A|CA|C|HK|NZ)(?=\$)", "", latex(text))
    return re.sub(r"([=(:\[{]\s*)-\s+(?=[$.0-9]|\\frac)", r"\1 -", text)


def _standing_alone(match: re.Match[str]) -> Fraction:
    """Returns the value of a number in a text. Raises Unreadable if it is part of a formula."""
    if reason := part_of(match):
        raise Unreadable(reason)
    return _value(match)


def _value(match: re.Match[str]) -> Fraction:
    part = match.groupdict(default="")
    if part["repeated"]:
        value = _repeating(part["repeated"], part["period"] or part["again"])
    else:
        above = part["top"] or part["short"] or part["one"] or part["over"] or part["digits"]
        below = part["bottom"] or part["tiny"] or part["other"] or part["under"] or "1"
        if not (divisor := _decimal(below)):
            raise Unreadable("a fraction over zero")
        value = _decimal(above) / divisor
        if part["units"]:
            value += _decimal(part["units"])
    power = int((part["e"][1:] or part["ten"].strip("{} ") or "0")[:9])
    if abs(power) > LONGEST:
        raise Unreadable("a number too long to compare")
    power += SCALES.get(part["scale"].lower(), 0)
    minus = part["sign"] == "-" or bool(part["minus"])
    scaled: Fraction = value * 10**power if power >= 0 else value / 10**-power
    return -scaled if minus != (part["inner"] == "-") else scaled


def _decimal(digits: str) -> Fraction:
    """Returns the value of digits with their separators, as the expressions above match them."""
    if sum(map(str.isdecimal, digits)) > LONGEST:
        raise Unreadable("a number too long to compare")
    digits = re.sub("[ '$]", "", digits)
    if re.fullmatch(
        r"[0-9]{1,3}(\.[0-9]{3})+,[0-9]+|[0-9]{1,3}(\.[0-9]{3}){2,}|[0-9]+,[0-9]{1,2}", digits
    ):
        return Fraction(digits.replace(".", "").replace(",", "."))
    return Fraction(digits.replace(",", ""))


def _repeating(digits: str, period: str) -> Fraction:
    if len(digits) + len(period) > LONGEST:
        raise Unreadable("a number too long to compare")
    places = len(digits.partition(".")[2])
    once = Fraction(int(period), int("9" * len(period) + "0" * places))
    return Fraction(f"0{digits}0") + once
