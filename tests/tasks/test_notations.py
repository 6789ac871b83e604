"""Notations: equal values are equal in every notation, and different values in none.

The tables are those of docs/notations.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.records import Outcome
from forkdiv.tasks.graders.registry import build_grader

PAGE = Path(__file__).parents[2] / "docs" / "notations.md"
CORRECT, WRONG = Outcome.CORRECT, Outcome.WRONG
GRADERS = {name: build_grader(name) for name in ("numeric", "hash", "boxed", "math", "choice")}
ANSWERED = {
    "numeric": "so it is {}",
    "hash": "Because.\n#### {}",
    "boxed": "\\boxed{{{}}}",
    "math": "First \\boxed{{1}}, no: \\boxed{{{}}}",
}
ROW = re.compile(r"\| (\w+) \| `(.+?)` \| `(.+?)` \| (\w+) \|")


def rows() -> list[tuple[str, ...]]:
    lines = PAGE.read_text().splitlines()
    found = [match.groups() for line in lines if (match := ROW.fullmatch(line))]
    headings = lines.count("| Grader | Reference | Response | Verdict |")
    assert len(found) + headings == sum(line.startswith("| ") for line in lines)
    return [tuple(cell.replace("\\|", "|") for cell in row) for row in found]


@pytest.mark.parametrize(("name", "answer", "text", "verdict"), rows())
def test_the_tables_of_the_documentation_hold(
    name: str, answer: str, text: str, verdict: str
) -> None:
    assert GRADERS[name].grade(answer, text).outcome == verdict


def test_every_grader_that_reads_notations_and_every_verdict_is_in_the_tables() -> None:
    names, _, _, verdicts = zip(*rows(), strict=True)
    assert set(names) == set(GRADERS)
    assert set(verdicts) == {"correct", "wrong", "unparsable"}


# --- a value in every notation ------------------------------------------------------------------

Writing = Callable[[Fraction], str | None]
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def digits_of(zero: str) -> Writing:
    table = {ord("0") + digit: chr(ord(zero) + digit) for digit in range(10)}
    return lambda value: plain(value).translate(table)


def plain(value: Fraction) -> str:
    return str(value)


def integer(form: Callable[[int], str]) -> Writing:
    return lambda value: form(value.numerator) if value.denominator == 1 else None


def grouped(separator: str) -> Writing:
    return integer(lambda number: f"{number:,}".replace(",", separator))


def mixed(form: str) -> Writing:
    def write(value: Fraction) -> str | None:
        units, rest = divmod(abs(value.numerator), value.denominator)
        if not units or not rest:
            return None
        return f"{'-' if value < 0 else ''}" + form.format(units, rest, value.denominator)

    return write


def fraction(form: str) -> Writing:
    sign = {True: "-", False: ""}
    return lambda value: sign[value < 0] + form.format(abs(value.numerator), value.denominator)


def decimal(value: Fraction) -> str | None:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest > 1 or value.denominator > 10**6:
        return None
    places = 20
    scaled = abs(value) * 10**places
    assert scaled.denominator == 1
    text = f"{scaled.numerator:0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{text[:-places]}.{text[-places:].rstrip('0') or '0'}"


def continental(value: Fraction) -> str | None:
    if (text := decimal(value)) is None or abs(value) < 1000:
        return None
    units, _, places = text.partition(".")
    return f"{int(units):,}".replace(",", ".") + f",{places}"


def repeating(value: Fraction) -> str | None:
    """Writes ninths as 0.(3) does."""
    units, rest = divmod(abs(value), 1)
    if value.denominator not in (3, 9):
        return None
    return f"{'-' if value < 0 else ''}{units}.\\overline{{{int(rest * 9)}}}"


NOTATIONS: dict[str, Writing] = {
    "as it is": plain,
    "full stop": lambda value: f"{value}.",
    "minus sign": lambda value: plain(value).replace("-", "−"),
    "en dash": lambda value: plain(value).replace("-", "–"),
    "full-width": lambda value: digits_of("０")(value).replace("-", "－"),  # type: ignore[union-attr]
    "arabic": digits_of("٠"),
    "devanagari": digits_of("०"),
    "plus": lambda value: f"+{value}" if value > 0 else None,
    "1,234": grouped(","),
    "1 234": grouped(" "),
    "1 234, thin": grouped("\u202f"),
    "1{,}234": grouped("{,}"),
    "1,\\!234": grouped(",\\!"),
    "1\\,234": grouped("\\,"),
    "1'234": grouped("'"),
    "1.234.567": lambda value: grouped(".")(value) if abs(value) >= 10**6 else None,
    "1.234,5": continental,
    "decimal": decimal,
    "decimal zeros": lambda value: f"{text}00" if (text := decimal(value)) else None,
    "leading zeros": integer(lambda number: f"{'-' if number < 0 else ''}00{abs(number)}"),
    "1/2": fraction("{}/{}"),
    "1 / 2": fraction("{} / {}"),
    "1⁄2": fraction("{}⁄{}"),
    "frac": fraction("\\frac{{{}}}{{{}}}"),
    "dfrac": fraction("\\dfrac{{{}}}{{ {} }}"),
    "tfrac": fraction("\\tfrac {{{}}} {{{}}}"),
    "mixed": mixed("{} {}/{}"),
    "mixed frac": mixed("{}\\frac{{{}}}{{{}}}"),
    "mixed space": mixed("{} \\tfrac{{{}}}{{{}}}"),
    "repeating": repeating,
    "money": integer(lambda number: f"{'-' if number < 0 else ''}${abs(number):,}.00"),
    "\\$": lambda value: f"\\${text}" if (text := decimal(value)) else None,
    "euro": lambda value: f"{text} €" if (text := decimal(value)) else None,
    "percent": lambda value: f"{text}\\%" if (text := decimal(value)) else None,
    "degrees": lambda value: f"{value}^\\circ",
    "°": lambda value: f"{value}°",
    "unit": lambda value: f"{value} \\text{{ cm}}",
    "word": lambda value: f"{value} apples",
    "times": lambda value: f"{text} \\times 10^{{3}}" if (text := decimal(value / 1000)) else None,
    "× ten": integer(lambda n: f"{n * 100} × 10⁻²"),
    "e": integer(lambda number: f"{number}00e-2"),
    "dollars": lambda value: f"${value}$",
    "parentheses": lambda value: f"({value})" if value.denominator == 1 else None,
    "bold": lambda value: f"\\mathbf{{{value}}}",
}
NINTHS = (
    st.integers(-(10**6), 10**6).filter(lambda ninths: ninths % 9).map(lambda n: Fraction(n, 9))
)

values = st.one_of(
    st.integers(-(10**12), 10**12).map(Fraction),
    st.integers(10**6, 10**9).map(Fraction),
    st.fractions(min_value=-5000, max_value=5000, max_denominator=1000),
    st.decimals(-(10**6), 10**6, places=3).map(Fraction),
)


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("name", ANSWERED)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_notation_of_a_value_is_that_value_and_no_other(
    name: str, notation: str, data: st.DataObject
) -> None:
    every = NINTHS if notation == "repeating" else values
    value = data.draw(every.filter(lambda value: NOTATIONS[notation](value) is not None))
    other, written = data.draw(values), str(NOTATIONS[notation](value))
    grader, response = GRADERS[name], ANSWERED[name].format(written)
    assert grader.grade(str(value), response).outcome is CORRECT
    assert grader.grade(written, ANSWERED[name].format(str(value))).outcome is CORRECT
    for different in {other, -value, value * 10, value + Fraction(1, 1000)} - {value}:
        verdict = grader.grade(str(different), response)
        assert verdict.outcome is WRONG, (written, different)
        if (again := NOTATIONS[notation](different)) is not None:
            assert grader.grade(again, response).outcome is WRONG


@pytest.mark.parametrize("notation", ["1,234", "as it is", "full-width", "arabic"])
@settings(max_examples=50, deadline=None)
@given(value=st.integers(10**100, 10**900))
def test_long_integers_are_exact_to_the_last_digit(notation: str, value: int) -> None:
    response = ANSWERED["numeric"].format(NOTATIONS[notation](Fraction(value)))
    assert GRADERS["numeric"].grade(str(value), response).outcome is CORRECT
    assert GRADERS["numeric"].grade(str(value + 1), response).outcome is WRONG
    assert GRADERS["math"].grade(str(value), f"\\boxed{{{value + 1}}}").outcome is WRONG


PARTS = (
    "{}²", "{}^2", "{}!", "{}π", "{}\\pi", "{}√2", "{}\\sqrt{{3}}", "{}x", "{}k", "\\sqrt{{{}}}",
    "√{}", "x^{{{}}}", "2^{{{}}}", "{}:30", "3:{}", "({}, 5)", "(5, {})", "2 + {}", "x/{}",
    "{}_8", "{}/7/9", "{},14", "3,{}", "-x + {}", "{} \\times y", "\\frac{{x}}{{{}}}", "{}‰",
)  # fmt: skip


@pytest.mark.parametrize("form", PARTS)
@pytest.mark.parametrize("name", ["numeric", "hash"])
@given(value=st.integers(2, 99))
def test_a_number_that_is_part_of_something_is_not_the_answer(
    name: str, form: str, value: int
) -> None:
    response = ANSWERED[name].format(form.format(value))
    assert GRADERS[name].grade(str(value), response).outcome is not CORRECT


@settings(max_examples=60, deadline=None)
@given(items=st.lists(st.integers(-99, 99), min_size=2, max_size=5, unique=True), data=st.data())
def test_sets_have_no_order_and_points_have_one(items: list[int], data: st.DataObject) -> None:
    other = data.draw(st.permutations(items))
    math = GRADERS["math"]

    def written(brackets: str, numbers: list[int]) -> str:
        return brackets.format(", ".join(map(str, numbers)))

    for brackets in ("{}", "\\{{{}\\}}"):
        response = f"\\boxed{{{written(brackets, other)}}}"
        assert math.grade(written("{}", items), response).outcome is CORRECT
        fewer = f"\\boxed{{{written(brackets, other[1:])}}}"
        assert math.grade(written("{}", items), fewer).outcome is WRONG
    for brackets in ("({})", "[{})", "\\left( {} \\right)"):
        response = f"\\boxed{{{written(brackets, other)}}}"
        expected = CORRECT if other == items else WRONG
        assert math.grade(written(brackets, items), response).outcome is expected
        assert math.grade(written("{}", items), response).outcome is WRONG
