r"""Counterfactual arithmetic: exact sums in any base, and slips into base ten told apart."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Outcome, Problem
from forkdiv.tasks import counterfactual_arithmetic as module
from forkdiv.tasks.counterfactual_arithmetic import (
    CounterfactualArithmetic,
    CounterfactualConfig,
    in_base,
)
from forkdiv.tasks.registry import build

TASK = CounterfactualArithmetic(CounterfactualConfig())
WIDE = CounterfactualArithmetic(CounterfactualConfig(bases=(3, 8, 10, 13, 16)))
PROBLEMS = [*TASK.heldout("test", 40), *WIDE.heldout("validation", 20)]


def asked(prompt: str) -> tuple[int, str, str]:
    """Base and operands, by the prompt alone."""
    match = re.search(r"Calculating in base (\d+), what is (\w+) \+ (\w+)\?", prompt)
    assert match and r"\boxed{}" in prompt
    return int(match[1]), match[2], match[3]


def true_sum(problem: Problem) -> int:
    base, first, second = asked(problem.prompt)
    return int(first, base) + int(second, base)


def content(problem: Problem) -> tuple[int, frozenset[str]]:
    base, first, second = asked(problem.prompt)
    return base, frozenset((first, second))


@given(st.integers(0, 10**6), st.integers(2, 16))
def test_a_number_in_a_base_reads_back_as_itself(number: int, base: int) -> None:
    assert int(in_base(number, base), base) == number


def test_a_problem_adds_two_numbers_of_two_digits_and_states_the_digits() -> None:
    for problem in PROBLEMS:
        base, first, second = asked(problem.prompt)
        assert f"the digits are {module.DIGITS[:base]}." in problem.prompt
        assert len(first) == len(second) == 2 and "0" not in (first[0], second[0])
        assert set(first + second) <= set(module.DIGITS[:base])
        assert problem.subset == f"base {base}"
        assert int(problem.facts["answer"], base) == true_sum(problem)


def test_the_habit_of_base_ten_never_gives_the_right_answer_outside_of_base_ten() -> None:
    for problem in [*TASK.heldout("test"), *WIDE.heldout("test", 50)]:
        base, first, second = asked(problem.prompt)
        habit = sum(10 * int(one[0], 16) + int(one[1], 16) for one in (first, second))
        assert (str(habit) == problem.facts["answer"]) == (base == 10)


def test_the_larger_number_comes_first_about_as_often_as_second() -> None:
    pairs = [asked(problem.prompt) for problem in TASK.heldout("test")]
    larger_first = sum(int(first, base) > int(second, base) for base, first, second in pairs)
    assert 400 < larger_first < 600


# --- traces and verdicts ------------------------------------------------------------------------


def test_the_reference_is_true_line_by_line_and_verifies() -> None:
    for problem in PROBLEMS:
        (trace,) = TASK.solutions(problem)
        base, first, second = asked(problem.prompt)
        sums = re.findall(
            r"(\w)(?: \(\d+\))? plus (\w).*? is (\d+), which is (\d) \* (\d+) \+ (\d+)", trace.text
        )
        assert [(one, other) for one, other, *_ in sums] == [*zip(first, second, strict=True)][::-1]
        carry = 0
        for one, other, *numbers in sums:
            total, head, of, rest = map(int, numbers)
            assert total == int(one, base) + int(other, base) + carry == head * of + rest
            assert of == base and rest < base
            carry = head
        verdict = TASK.verify(problem, trace.text)
        assert (verdict.outcome, verdict.answer) == (Outcome.CORRECT, problem.facts["answer"])
        assert trace.mode == "words"


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(PROBLEMS), st.data())
def test_a_corrupted_answer_does_not_verify(problem: Problem, data: st.DataObject) -> None:
    right = problem.facts["answer"]
    at = data.draw(st.integers(0, len(right)))
    letter = data.draw(st.sampled_from([*module.DIGITS, "G", "Z", "-", ".", ""]))
    text = right[:at] + letter + right[at + data.draw(st.integers(0, 1)) :]
    assume(text.lstrip("0") != right)
    verdict = TASK.verify(
        problem, TASK.solutions(problem)[0].text.replace(f"{{{right}}}", f"{{{text}}}")
    )
    digits = set(module.DIGITS[: problem.facts["base"]])
    slips = {module.DECIMAL_SUM, module.DECIMAL_VALUE}
    readable = (text and set(text) <= digits) or verdict.detail in slips
    assert verdict.outcome is (Outcome.WRONG if readable else Outcome.UNPARSABLE)


@pytest.mark.parametrize("form", ["{}", " {} ", "${}$", "00{}", "{}_{{{base}}}", "{}_{base}"])
def test_case_zeros_spaces_dollars_and_the_base_as_subscript_do_not_matter(form: str) -> None:
    for problem in PROBLEMS:
        base, answer = problem.facts["base"], problem.facts["answer"]
        if form == "{}_{base}" and base > 9:
            continue
        for spelling in (answer, answer.lower()):
            text = rf"\boxed{{{form.format(spelling, base=base)}}}"
            verdict = TASK.verify(problem, text)
            assert (verdict.outcome, verdict.answer) == (Outcome.CORRECT, answer), text


def test_slips_into_base_ten_are_told_apart() -> None:
    for problem in PROBLEMS:
        base, first, second = asked(problem.prompt)
        if base == 10:
            continue
        habit = sum(10 * int(one[0], 16) + int(one[1], 16) for one in (first, second))
        for answer, detail in [
            (str(habit), module.DECIMAL_SUM),
            (str(true_sum(problem)), module.DECIMAL_VALUE),
            (in_base(true_sum(problem) + base**3, base), module.OTHER_ANSWER),
        ]:
            verdict = TASK.verify(problem, rf"\boxed{{{answer}}}")
            assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, detail)


@pytest.mark.parametrize(
    "text", ["", "12", r"\boxed{}", r"\boxed{12", r"\boxed{G}", r"\boxed{1 2}", r"\boxed{12_{5}}"]
)
def test_what_is_no_boxed_number_of_the_base_does_not_parse(text: str) -> None:
    for problem in PROBLEMS:
        verdict = TASK.verify(problem, text)
        assert (verdict.outcome, verdict.answer) == (Outcome.UNPARSABLE, None)


def test_every_canary_gets_the_verdict_it_is_known_to_deserve() -> None:
    for task in (TASK, WIDE):
        for problem, text, outcome in task.canaries():
            assert task.verify(problem, text).outcome is outcome, text


# --- splits -------------------------------------------------------------------------------------


def test_no_pair_is_in_two_splits_or_twice_in_one_whatever_the_seed() -> None:
    found: dict[str, set[tuple[int, frozenset[str]]]] = {"validation": set(), "test": set()}
    for seed in range(3):
        task = CounterfactualArithmetic(CounterfactualConfig(seed=seed))
        for split, contents in found.items():
            problems = task.heldout(split, task.available(split))
            drawn = {content(problem) for problem in problems}
            assert len(drawn) == len({problem.id for problem in problems}) == len(problems)
            contents |= drawn
    assert not found["validation"] & found["test"]


def test_the_bases_have_equal_shares_and_a_longer_list_begins_with_the_shorter() -> None:
    problems = TASK.heldout("test")
    assert len(problems) == 1000 and len(TASK.heldout("validation")) == 200
    assert set(Counter(problem.subset for problem in problems).values()) == {250}
    assert TASK.subsets == ("base 7", "base 9", "base 11", "base 12")
    assert problems[:48] == TASK.heldout("test", 48)
    assert problems == CounterfactualArithmetic(CounterfactualConfig()).heldout("test")
    other = CounterfactualArithmetic(CounterfactualConfig(seed=1)).heldout("test", 48)
    assert other != problems[:48]


def test_all_pairs_of_a_base_are_in_one_split_or_the_other() -> None:
    task = CounterfactualArithmetic(CounterfactualConfig(bases=(10,)))
    # 90 numbers of two digits, in pairs whose order does not count
    assert task.available("validation") + task.available("test") == 90 * 91 // 2
    assert task.available("train") == 0


def test_more_problems_than_there_are_or_uneven_shares_are_refused() -> None:
    with pytest.raises(UserError, match="too few distinct problems for the test split"):
        TASK.heldout("test", TASK.available("test") + 4)
    with pytest.raises(UserError, match="must be a multiple of the task"):
        TASK.heldout("test", 30)
    with pytest.raises(UserError, match="too few distinct problems for the train split"):
        TASK.heldout("train", 4)


def test_the_task_has_no_data_to_train_on() -> None:
    with pytest.raises(UserError, match="no fine-tuning data"):
        TASK.sft_examples(DatasetConfig(examples=4))
    with pytest.raises(UserError, match="no random walks"):
        TASK.walk_examples(PretrainConfig(), " ")


@pytest.mark.parametrize("bases", [(), (7, 7), (2,), (17,)])
def test_bases_that_cannot_be_are_refused(bases: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        CounterfactualConfig(bases=bases)


def test_build_gives_the_task_of_its_config() -> None:
    assert isinstance(build(CounterfactualConfig(bases=(5,))), CounterfactualArithmetic)
