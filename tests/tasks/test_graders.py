"""Graders: what is equal, what is not, what is no answer; and a failure is never a verdict."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forkdiv.core.errors import UserError
from forkdiv.core.fingerprint import file_digest
from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.graders.base import AnswerGrader, Canary
from forkdiv.tasks.graders.exact import Exact
from forkdiv.tasks.graders.math import Math
from forkdiv.tasks.graders.registry import GRADERS, build_grader

ROOT = Path(__file__).parents[2]
CORRECT, WRONG, UNPARSABLE = Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSABLE
BUILT = {name: build_grader(name) for name in GRADERS}
BY_VALUE = {"numeric": "{}", "boxed": "\\boxed{{{}}}", "hash": "#### {}"}  # how they are answered
LETTERS = st.sampled_from("ABCDEFGHIJ")

values = st.fractions(max_denominator=10**6) | st.integers(-(10**30), 10**30).map(Fraction)


def outcome(name: str, answer: str, text: str) -> Outcome:
    return BUILT[name].grade(answer, text).outcome


# --- all graders --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "canary"),
    [(name, canary) for name, grader in BUILT.items() for canary in grader.canaries],
)
def test_every_canary_of_every_grader_holds(name: str, canary: Canary) -> None:
    answer, text, expected = canary
    verdict = BUILT[name].grade(answer, text)
    assert verdict.outcome is expected
    votes = getattr(BUILT[name], "votes", True)
    assert (verdict.answer is None) == (expected is UNPARSABLE or not votes)
    assert bool(verdict.detail) == (expected is not CORRECT)
    if expected is CORRECT and votes:
        assert verdict.answer == BUILT[name].reference(answer)


@pytest.mark.parametrize("name", GRADERS)
def test_canaries_cover_every_outcome(name: str) -> None:
    assert BUILT[name].name == name
    assert {expected for *_, expected in BUILT[name].canaries} == {CORRECT, WRONG, UNPARSABLE}


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(set(GRADERS) - {"math", "unit_tests"})), text=st.text(max_size=60)
)
def test_any_response_gets_a_verdict_with_one_of_few_details(name: str, text: str) -> None:
    verdict = BUILT[name].grade("A" if name == "choice" else "18", text)
    details = {
        WRONG: {"another answer"},
        CORRECT: {""},
        UNPARSABLE: {
            *("empty", "no number", "no ####", "no number after ####", "no choice"),
            *("several numbers after ####", "several choices", "no \\boxed{}"),
            *("an unclosed \\boxed{}", "an empty \\boxed{}", "a fraction over zero"),
            *("a number too long to compare", "a number with a power or a subscript"),
            *(
                "a number that is part of a formula",
                "a comma that may be a decimal point",
                "an empty answer",
            ),
        },
    }
    assert verdict.detail in details[verdict.outcome]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("exact", "  "), ("numeric", "7A"), ("numeric", "two"), ("numeric", "1/0"),
        ("numeric", "3, 4"), ("numeric", "2^{10}"), ("numeric", "3,14"), ("numeric", "8\\pi"),
        ("hash", "#### 7A"), ("hash", ""),
        ("boxed", " $ "), ("boxed", "so \\boxed{14"), ("boxed", "\\boxed{}"), ("choice", "K"),
        ("choice", "AB"), ("choice", "b"), ("math", ""), ("math", "word " * 60),
        ("math", "\\frac{1}{0}"),
    ],
)  # fmt: skip
def test_a_reference_that_cannot_be_read_is_refused_with_a_reason(name: str, answer: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+|empty"):
        BUILT[name].reference(answer)
    with pytest.raises(ValueError, match=r"\w+ \w+|empty"):
        BUILT[name].grade(answer, "The answer is #### \\boxed{5}")


def test_graders_load_without_the_mathematics() -> None:
    code = (
        "import sys, forkdiv.tasks.graders.registry as g;"
        " g.build_grader('boxed'); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "forkdiv.tasks.graders.registry" in loaded
    assert not loaded & {"sympy", "math_verify", "latex2sympy2_extended"}


@pytest.mark.parametrize("name", ["Exact", "", "maths"])
def test_an_unknown_grader_is_refused_with_those_that_are_allowed(name: str) -> None:
    with pytest.raises(
        UserError, match=r"exact, numeric, boxed, hash, choice, math, unit_tests or package"
    ):
        build_grader(name)


# --- exact, numeric, hash, boxed ----------------------------------------------------------------


@settings(deadline=None)
@given(text=st.text(min_size=1))
def test_a_text_is_exactly_itself_and_nothing_longer(text: str) -> None:
    assume(text.strip())
    assert outcome("exact", text, f"\n {text}\t") is CORRECT
    assert outcome("exact", text, text + " x") is WRONG
    assert outcome("exact", text, f"x {text}") is WRONG


@pytest.mark.parametrize("name", BY_VALUE)
@settings(deadline=None)
@given(value=values)
def test_a_value_is_equal_to_itself_in_every_form(name: str, value: Fraction) -> None:
    for reference in forms(value):
        canonical = BUILT[name].reference(reference)
        assert canonical == str(value)
        for form in forms(value):
            verdict = BUILT[name].grade(reference, "so it is " + BY_VALUE[name].format(form))
            assert verdict == Verdict(CORRECT, canonical)


@pytest.mark.parametrize("name", BY_VALUE)
@settings(deadline=None)
@given(value=values, other=values)
def test_a_different_value_is_never_correct(name: str, value: Fraction, other: Fraction) -> None:
    others = {other, -value, value / 10, value + Fraction(1, 10**40)}
    for one in others - {value}:
        for form in forms(one):
            assert outcome(name, str(value), BY_VALUE[name].format(form)) is WRONG


def forms(value: Fraction) -> list[str]:
    """Ways to write one value."""
    written = [str(value), f"{value.numerator} / {value.denominator}", f"{value}."]
    sign = "-" if value < 0 else ""
    top, bottom = abs(value.numerator), value.denominator
    written += [f"{sign}\\dfrac{{{top}}}{{{bottom}}}", f"{sign}{top:,}/{bottom:,}"]
    if bottom == 1:
        written += [f"{sign}${top:,}.00", f"{value}.0", f"\\${sign}{top:,}", f"{value}%"]
        written += [f"{sign}{top:,}".replace(",", "{,}"), f"\u2212{top}" if sign else f"+{top}"]
        written += [f"{value * 1000} \\times 10^{{-3}}"]
    return written


@pytest.mark.parametrize(
    ("text", "last"),
    {
        "10 - 3 = 7 apples": "7",
        "x = - 3.": "-3",
        "the area is 20 m^2, or 20 m^{2}": "20",
        "5 km/h": "5",
        "H2O and x_1 and x_{12} make 4 of CO2": "4",
        "1,2,3": "3",
        "10,20,30": "30",
        "$.50": "1/2",
        "1.2e-3": "3/2500",
        "3\\times4=12": "12",
        "v1.2.3 gives 8.": "8",
        "答案是18。": "18",
        "答案是−18。": "-18",
        "= 5\n- 3 apples": "3",
        "The **answer** is **8**.": "8",
        "COVID-19": "19",
        "x = - \\frac{1}{2}": "-1/2",
    }.items(),
)
def test_the_last_number_of_a_text_is_found(text: str, last: str) -> None:
    assert BUILT["numeric"].grade("99", text).answer == last


@pytest.mark.parametrize("text", ["2^{10}", "143_{12}", "1/0", "9" * 2000, "1e5000", "", "x^2"])
def test_a_number_that_cannot_be_compared_is_unparsable_at_the_end_of_a_text(text: str) -> None:
    assert outcome("numeric", "10", f"first {text}") is UNPARSABLE


def test_digits_of_other_bases_are_text() -> None:
    for answer, other in (("7A", "A7"), ("BB", "bb"), ("1E2", "100"), ("A0", "A")):
        assert BUILT["boxed"].reference(answer) == answer
        assert outcome("boxed", answer, f"\\boxed{{\\text{{{answer}}}}}") is CORRECT
        assert outcome("boxed", answer, f"\\boxed{{{other}}}") is WRONG


@pytest.mark.parametrize(
    ("answer", "text"),
    {
        "x+1": "\\boxed{ x + 1 }",
        "(1,2)": "\\boxed{\\left( 1,\\, 2 \\right)}",
        "\\{1,2\\}": "\\boxed{\\{1, 2\\}}",
        "\\frac{x}{y}": "\\boxed{$\\dfrac{x}{y}$.}",
        "New York": "\\boxed{\\mathrm{New  York}}",
        "\\text{even}": "\\boxed{\\boxed{even}}",
        "\\sqrt{\\frac{1}{2}}": "\\fbox{\\sqrt{\\tfrac{1}{2}}} and }",
        "so \\boxed{5}": "\\boxed{4}, no \\boxed{5}",
    }.items(),
)
def test_boxed_text_is_compared_without_its_dress(answer: str, text: str) -> None:
    assert outcome("boxed", answer, text) is CORRECT


@settings(deadline=None)
@given(
    content=st.recursive(
        st.sampled_from(["a", "1", "b c", "\\{", "\\}", "\\pi"]),
        lambda inner: st.lists(inner, max_size=4).map(lambda parts: f"{{{' '.join(parts)}}}"),
    )
)
def test_a_box_ends_at_its_own_brace(content: str) -> None:
    text = f"\\boxed{{0}} \\boxed{{{content}}} }} {{"
    assert BUILT["boxed"].grade("z", text).answer == BUILT["boxed"].reference(content)


# --- choice -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        "The answer is ({}).", "Answer: {}", "**Answer:** {}) Paris", "**Final answer: {}**",
        "the correct option is {}.", "The best choice is ({}), since A fits.", "\\boxed{{{}}}",
        "The answer is $\\boxed{{\\text{{({})}}}}$.", "{}", "({})", "**{}**", "Because.\n\n{}.",
        "Because.\n{}) Paris", "I take **{}** here", "The answer is not (A), the answer is ({})",
        "The answer is {} because I said so.", "answer is **option {}**", "The answer is\n{}\n",
        "The answer is \\textbf{{({})}}. A and I were close.",
    ],
)  # fmt: skip
@settings(max_examples=20, deadline=None)
@given(letter=LETTERS, other=LETTERS)
def test_a_choice_is_read_in_the_ways_models_state_it(way: str, letter: str, other: str) -> None:
    text = way.format(letter)
    assert BUILT["choice"].grade(letter, text) == Verdict(CORRECT, letter)
    expected = CORRECT if other == letter else WRONG
    assert outcome("choice", f"({other})", text) is expected


@pytest.mark.parametrize(
    ("text", "detail"),
    {
        "The answer is A or B.": "several choices",
        "The answer is (A) and (C)": "several choices",
        "Answer: A, B": "several choices",
        "The answer is A. So \\boxed{B}": "several choices",
        "**A** or **B**, who knows": "several choices",
        "The answer is a number": "no choice",
        "The answer is A number": "no choice",
        "The answer is I think 5": "no choice",
        "A good question": "no choice",
        "\\boxed{42}": "no choice",
        "": "no choice",
    }.items(),
)
def test_no_choice_and_several_are_unparsable(text: str, detail: str) -> None:
    assert BUILT["choice"].grade("A", text) == Verdict(UNPARSABLE, None, detail)


# --- math ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("\\sqrt{8}", "\\boxed{2\\sqrt{2}}", CORRECT),
        ("(x+1)^2", "\\boxed{x^2+2x+1}", CORRECT),
        ("\\frac{1}{2}", "The final answer is $0.5$.", CORRECT),
        ("18", "\\boxed{18 \\text{ dollars}}", CORRECT),
        ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", CORRECT),
        ("(x+1)^2", "\\boxed{x^2+1}", WRONG),
        ("10000000", "\\boxed{10000001}", WRONG),
        ("5", "\\boxed{\\frac{1}{0}}", UNPARSABLE),
        ("5", "\\boxed{\\frac{1}{}", UNPARSABLE),
        ("5", "", UNPARSABLE),
    ],
)
def test_math_knows_equivalent_forms(answer: str, text: str, expected: Outcome) -> None:
    assert outcome("math", answer, text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^{9}}}", "10^{10^{10}}", "(((9!)!)!)!", r"\sum_{k=1}^{10^{9}} k^k", "9" * 5000,
        "(" * 3000 + "x" + ")" * 3000, "{" * 300 + "x" + "}" * 300,
        r"\sqrt{" * 200 + "x" + "}" * 200,
        "x^" * 500 + "2", r"\undefined{{}}^^__", "\x00\ud7ff\u202e", "5\u0336", r"\frac{1}{0}",
    ],
)  # fmt: skip
def test_no_formula_makes_the_grader_fail(text: str) -> None:
    assert outcome("math", "5", f"\\boxed{{{text}}}") in (WRONG, UNPARSABLE)
    assert outcome("math", "\\sqrt{8}", "\\boxed{2\\sqrt{2}}") is CORRECT


def test_math_works_off_the_main_thread() -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(outcome("math", "\\sqrt{8}", "\\boxed{2\\sqrt{2}}"))
    )
    thread.start()
    thread.join()
    assert outcomes == [CORRECT]


def test_the_end_of_the_algebra_process_is_a_failure_of_the_grader_and_no_verdict() -> None:
    grader = Math()
    assert grader.grade("\\sqrt{8}", "\\boxed{2\\sqrt{2}}").outcome is CORRECT
    process = grader._algebra._process
    assert process
    process.kill()
    with pytest.raises(RuntimeError, match="process of math-verify ended with -9"):
        grader.grade("\\sqrt{8}", "\\boxed{3\\sqrt{2}}")
    assert grader.grade("\\sqrt{8}", "\\boxed{2\\sqrt{2}}").outcome is CORRECT


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="\\{}^_$()[]0123x+-=<>,.! boxedfracsqrt²½−٣", max_size=40))
def test_any_box_gets_a_verdict_of_math(text: str) -> None:
    assert outcome("math", "\\sqrt{7}", f"\\boxed{{{text}}}") in (WRONG, UNPARSABLE)


# --- a user's function --------------------------------------------------------------------------

OWN = """
from forkdiv.core.fingerprint import file_digest
from forkdiv.core.records import Outcome, Verdict
canaries = [("a", "xa", "correct"), ("a", "b", Outcome.WRONG)]
def ends(answer, text): return text.endswith(answer)
def says(answer, text): return Verdict(Outcome.UNPARSABLE, None, "as I say")
def counts(answer, text): return text.count(answer)
def fails(answer, text): raise KeyError(answer)
def one(answer): return True
def three(answer, text, more): return True
number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of a user's; a fresh one, since modules are kept."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / "broken_one.py").write_text("def f(:")
    (tmp_path / "odd_canaries.py").write_text("canaries = [1]\ndef f(a, b): return True")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_users_function_grades_by_what_it_returns(own: str) -> None:
    ends: AnswerGrader = build_grader(f"{own}:ends")
    assert ends.name == f"{own}:ends"
    assert ends.canaries == (("a", "xa", CORRECT), ("a", "b", WRONG))
    assert ends.reference("a") == "a"
    assert ends.grade("a", "ba") == Verdict(CORRECT, "a")
    assert ends.grade("a", "ab") == Verdict(WRONG, None, "another answer")
    says = build_grader(f"{own}:says")
    assert says.grade("a", "b") == Verdict(UNPARSABLE, None, "as I say")


def test_a_users_function_that_fails_or_answers_something_else_raises(own: str) -> None:
    with pytest.raises(TypeError, match="must return a bool or a Verdict, got 1"):
        build_grader(f"{own}:counts").grade("a", "a")
    with pytest.raises(KeyError):
        build_grader(f"{own}:fails").grade("a", "a")


@pytest.mark.parametrize(
    "name",
    ["{}:one", "{}:three", "{}:number", "{}:missing", "{}:", ":f", "no_such_module:f", ".x:f",
     "broken_one:f", "odd_canaries:f"],
)  # fmt: skip
def test_an_unusable_grader_function_is_refused_before_anything_runs(own: str, name: str) -> None:
    with pytest.raises(UserError, match=r"the grader cannot be loaded: got .*; allowed: package"):
        build_grader(name.format(own))


def test_what_decides_a_users_verdicts_is_in_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"mine_{tmp_path.name}"
    module, other = tmp_path / f"{name}.py", tmp_path / f"{name}_rule.py"
    other.write_text("def rule(answer, text): return answer in text")
    module.write_text(f"from {name}_rule import rule\ndef ends(answer, text): return True")
    monkeypatch.syspath_prepend(tmp_path)

    def identities() -> list[dict[str, object]]:
        for loaded in (name, f"{name}_rule"):
            sys.modules.pop(loaded, None)
        importlib.invalidate_caches()
        return [build_grader(f"{name}:{function}").identity() for function in ("ends", "rule")]

    ends, rule = identities()
    assert ends != rule
    assert identities() == [ends, rule]
    module.write_text(module.read_text() + "  # and a remark")
    changed_ends, changed_rule = identities()
    assert changed_ends != ends
    assert changed_rule != rule
    other.write_text("def rule(answer, text): return answer == text")
    assert identities()[0] == changed_ends
    assert identities()[1] != changed_rule


def test_the_version_of_math_verify_is_in_the_identity_of_math_alone() -> None:
    identities = {name: BUILT[name].identity() for name in GRADERS}
    assert identities["exact"] == {}
    libraries = identities["math"]["libraries"]
    assert libraries["math-verify"] == metadata.version("math-verify")
    assert [name for name, identity in identities.items() if "libraries" in identity] == ["math"]


def test_the_source_of_a_grader_of_another_package_is_in_its_identity() -> None:
    class Other(Exact):
        pass

    assert Other().identity() == {"source": file_digest(__file__)}


def test_the_comparison_after_one_that_was_ended_is_made_in_a_new_child() -> None:
    from forkdiv.tasks.graders.algebra_process import PAIRS, AlgebraProcess
    from forkdiv.tasks.graders.answers import Answer
    from forkdiv.tasks.graders.numbers import Unreadable

    algebra = AlgebraProcess()

    def equal(a: str, b: str) -> bool:
        return algebra.equal(Answer("formula", a), Answer("formula", b))

    assert equal("x^2+2x+1", "(x+1)^2")
    with pytest.raises(Unreadable):
        equal("x", "(" * 3000 + "x" + ")" * 3000)
    assert equal("2x", "x+x") and not equal("2x", "3x")
    # and beyond the number of pairs of one child
    assert all(equal(f"x+{i}", f"{i}+x") for i in range(PAIRS + 2))
