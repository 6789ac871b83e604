"""Words or code: words are right in every step, code in what it prints when it is executed."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Outcome, Problem
from forkdiv.tasks.words_or_code import (
    CODE,
    CODE_RAISED,
    MODE_OF,
    NOTHING_PRINTED,
    OTHER_ANSWER,
    WORDS,
    WRONG_STEP,
    WordsOrCode,
    WordsOrCodeConfig,
)

TASK = WordsOrCode(WordsOrCodeConfig())
PROBLEMS = TASK.heldout("test", 12)
TOKENS = TASK.vocabulary()[3:]


def answer(problem: Problem) -> int:
    """Worked out from the prompt alone."""
    listed = problem.prompt.removeprefix("given: ").removesuffix(" ask: x answer:").split(" ; ")
    assert listed[0].startswith("x = ")
    value = int(listed[0].removeprefix("x = "))
    for step in listed[1:]:
        sign, digit = step.removeprefix("x ").split("= ")
        value += int(digit) if sign == "+" else -int(digit)
    return value % 10


def test_the_listed_solutions_are_correct_in_both_modes() -> None:
    for problem in PROBLEMS:
        assert 0 <= answer(problem) <= 9
        traces = TASK.solutions(problem)
        assert len({trace.text for trace in traces}) == len(traces) == 8
        for trace in traces:
            verdict = TASK.verify(problem, trace.text)
            assert (verdict.outcome, verdict.mode) == (Outcome.CORRECT, trace.mode)
            assert verdict.answer == str(answer(problem))
            assert len(trace.text.split()) + 1 <= TASK.longest_response()


@settings(deadline=None, max_examples=250)
@given(st.sampled_from(PROBLEMS), st.integers(0, 3), st.data())
def test_a_corrupted_response_in_words_is_not_correct(
    problem: Problem, which: int, data: st.DataObject
) -> None:
    listed = [trace.text for trace in TASK.solutions(problem) if trace.mode == WORDS]
    words = listed[which].split()
    at = data.draw(st.integers(0, len(words) - 1))
    words[at : at + 1] = data.draw(st.lists(st.sampled_from(TOKENS), max_size=2))
    text = " ".join(words)
    verdict = TASK.verify(problem, text)
    if MODE_OF.get(text.split()[0] if text.split() else "") == WORDS:
        styled = {text.replace("thus", "so") for text in [text, *listed]}
        assert (verdict.outcome is Outcome.CORRECT) == (len(styled) == 2)  # of two openers


@settings(deadline=None, max_examples=250)
@given(st.sampled_from(PROBLEMS), st.integers(0, 3), st.data())
def test_corrupted_code_is_judged_as_python_would_run_it(
    problem: Problem, which: int, data: st.DataObject
) -> None:
    listed = [trace.text for trace in TASK.solutions(problem) if trace.mode == CODE]
    opener, *words = listed[which].split()
    at = data.draw(st.integers(0, len(words) - 1))
    safe = [token for token in TOKENS if token not in MODE_OF]  # no loops can be written in these
    words[at : at + 1] = data.draw(st.lists(st.sampled_from(safe), max_size=2))
    code = " ".join(words)
    verdict = TASK.verify(problem, f"{opener} {code}")
    printed = executed(code)
    assert (verdict.outcome is Outcome.CORRECT) == (printed == str(answer(problem)))
    if printed is None:
        assert verdict.detail == CODE_RAISED


def executed(code: str) -> str | None:
    """What Python prints for a corrupted copy of our own code; None where it raises."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(code, {})
    except Exception:
        return None
    return out.getvalue().strip()


def test_the_verdict_has_the_reason_of_a_wrong_response() -> None:
    problem = PROBLEMS[0]
    right = answer(problem)
    wrong = (right + 1) % 10
    cases = [
        (f"To x is {right} .", WRONG_STEP),
        (f"To x is {wrong} .", OTHER_ANSWER),
        ("Let print ( 1 / 0 )", CODE_RAISED),
        ("Let print (", CODE_RAISED),
        (f"Let print ( {wrong} )", OTHER_ANSWER),
        ("Let x = 3", NOTHING_PRINTED),
        ("Now print ( print )", NOTHING_PRINTED),
    ]
    for text, detail in cases:
        verdict = TASK.verify(problem, text)
        assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, detail), text
    assert TASK.verify(problem, f"Let print ( {right} )").outcome is Outcome.CORRECT
    for text in ("", "x is 3 .", "To be or not", "print ( 3 )"):
        assert TASK.verify(problem, text).outcome is Outcome.UNPARSABLE


def test_a_program_that_never_ends_is_not_an_answer() -> None:
    with pytest.raises(RuntimeError, match="hit its limits"):
        TASK.verify(PROBLEMS[0], "Let exec ( 'while True: pass' )")
    text = next(trace.text for trace in TASK.solutions(PROBLEMS[0]) if trace.mode == CODE)
    assert TASK.verify(PROBLEMS[0], text).outcome is Outcome.CORRECT, "the next one is judged"


@pytest.mark.parametrize("structure", ["data-level", "problem-level"])
def test_modes_and_phrasings_come_in_equal_shares_whatever_the_structure(structure: str) -> None:
    config = DatasetConfig(examples=800, structure=structure)
    rows = list(TASK.sft_examples(config))
    assert Counter(row.mode for row in rows) == {WORDS: 400, CODE: 400}
    by_problem: dict[str, list[str]] = {}
    for row in rows:
        by_problem.setdefault(row.problem_id, []).append(row.mode)
    assert len(by_problem) == 400
    assert {len(set(modes)) for modes in by_problem.values()} == {
        1 if structure == "data-level" else 2
    }
    openers = Counter(row.response.split()[0] for row in rows)
    assert all(abs(openers[opener] - 200) < 60 for opener in MODE_OF)


def test_both_structures_show_the_same_problems() -> None:
    shown = [
        [row.prompt for row in TASK.sft_examples(DatasetConfig(examples=200, structure=structure))]
        for structure in ("data-level", "problem-level")
    ]
    assert shown[0] == shown[1]


def test_no_digit_sign_or_frequency_tells_the_answer_better_than_chance() -> None:
    """Policies that read one thing of the listing. 2,000 problems: an advantage of five points
    over one in ten is found with a power above 0.99 (five standard errors are 3.4 points)."""
    problems = TASK.heldout("test", 2000)
    digits = [[int(digit) for digit in re.findall("[0-9]", problem.prompt)] for problem in problems]
    policies: dict[str, Callable[[list[int]], int]] = {
        "first listed": lambda row: row[0],
        "last listed": lambda row: row[-1],
        "largest": max,
        "smallest": min,
        "most frequent": lambda row: Counter(row).most_common(1)[0][0],
    }
    right = [answer(problem) for problem in problems]
    for name, policy in policies.items():
        hits = sum(policy(row) == r for row, r in zip(digits, right, strict=True))
        assert abs(hits / 2000 - 0.1) < 5 * (0.09 / 2000) ** 0.5, name
    common = Counter(row.facts["answer"] for row in TASK.heldout("validation", 2000))
    usual = common.most_common(1)[0][0]
    assert abs(right.count(usual) / 2000 - 0.1) < 5 * (0.09 / 2000) ** 0.5


def test_walks_for_a_base_stop_at_any_variable() -> None:
    rows = TASK.walk_examples(PretrainConfig(examples=300, walks=4), "|")
    walks = [walk for row in rows for walk in row.response.split("|")]
    steps = ("plus", "minus", "+=", "-=")
    lengths = Counter(sum(word in steps for word in walk.split()) + 1 for walk in walks)
    assert set(lengths) == set(range(1, 7))
    assert all(abs(count / len(walks) - 1 / 6) < 0.05 for count in lengths.values())


def test_the_splits_share_no_problem() -> None:
    train = {row.problem_id for row in TASK.sft_examples(DatasetConfig(examples=800))}
    test = {problem.id for problem in TASK.heldout("test", 200)}
    validation = {problem.id for problem in TASK.heldout("validation", 200)}
    assert not (train & test or train & validation or test & validation)


def test_its_canaries_get_their_known_outcomes() -> None:
    for problem, text, outcome in TASK.canaries():
        assert TASK.verify(problem, text).outcome is outcome, text


def test_examples_that_do_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match=r"multiple of dataset\.solutions"):
        list(TASK.sft_examples(DatasetConfig(examples=101)))
