r"""Arithmetic chains: traces that hold line by line, exact verdicts, and one fork."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forkdiv.core.records import Example, Outcome, Problem
from forkdiv.tasks import arithmetic_chain as module
from forkdiv.tasks import equations
from forkdiv.tasks.arithmetic_chain import ArithmeticChain, ArithmeticChainConfig
from forkdiv.tasks.registry import build
from tests.chain_prompts import SHAPES, SHORT, TASK, data, seen, shaped

PROBLEMS = [*TASK.heldout("test", 8), *SHORT.heldout("validation", 8)]


# --- problems and their traces ------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_problem_is_chains_from_one_root_with_the_goal_at_one_end(
    shape: tuple[int, int, int],
) -> None:
    chains, length, _ = shape
    for problem in shaped(*shape).heldout("test", 40):
        prompt = seen(problem.prompt)
        assert len(prompt.lines) == len(prompt.at) == chains * length
        assert len(prompt.firsts) == chains and prompt.root not in prompt.at
        ends = [prompt.end(first) for first in prompt.firsts]
        assert prompt.end(prompt.right) == prompt.goal and len(set(ends)) == chains
        # an answer tells which chain it came from
        assert len({prompt.values[end] for end in ends}) == chains
        assert problem.facts["answer"] == prompt.values[prompt.goal]
        assert all(1 <= abs(change) <= 20 for _, _, change in prompt.lines)
        assert len({len(name) for name in prompt.values}) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_signed_problems_have_one_mark_at_the_right_equation_and_unsigned_none(
    shape: tuple[int, int, int],
) -> None:
    for problem in shaped(*shape).heldout("validation", 60):
        prompt = seen(problem.prompt)
        marked = [prompt.lines[i][0] for i in prompt.marked]
        assert marked == ([prompt.right] if problem.subset == "signed" else [])


def claims(line: str) -> list[list[str]]:
    """The sides that a line says are equal, in groups."""
    told = line.removesuffix(".").split(". ", 1)[1] if line[0].isdigit() else ""
    return [clause.split(" = ") for clause in told.split(", so ")] if told else []


def worth(side: str, values: dict[str, int]) -> int:
    """An expression like `p + 1 - 3`, left to right."""
    total, sign = 0, 1
    for word in side.split():
        if word in "+-":
            sign = 1 if word == "+" else -1
        else:
            total += sign * (values[word] if word in values else int(word))
    return total


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(SHAPES), st.integers(0, 50), st.floats(0, 1), st.floats(0, 1))
def test_every_line_of_a_generated_trace_is_true_and_every_trace_verifies(
    shape: tuple[int, int, int], seed: int, density: float, direction: float
) -> None:
    task = shaped(*shape)
    for row in data(task, examples=6, seed=seed, fork_density=density, direction=direction):
        prompt = seen(row.prompt)
        lines = row.response.split("\n")
        for line in lines:
            for sides in claims(line):
                assert len({worth(side, prompt.values) for side in sides}) == 1, line
        assert lines[-1] == rf"The answer is \boxed{{{prompt.values[prompt.goal]}}}."
        problem = as_problem(row)
        assert json.loads(row.facts) == problem.facts
        assert task.check_trace(problem, row.response) is None
        verdict = task.verify(problem, row.response)
        assert (verdict.outcome, verdict.mode) == (Outcome.CORRECT, row.mode)
        assert row.response in {trace.text for trace in task.solutions(problem)}


def as_problem(row: Example) -> Problem:
    """The problem of an example, by its prompt alone."""
    prompt = seen(row.prompt)
    facts = {
        "root": prompt.root,
        "value": prompt.value,
        "target": prompt.goal,
        "equations": [
            [variable, parent, "+" if change > 0 else "-", abs(change)]
            for variable, parent, change in prompt.lines
        ],
        "answer": prompt.values[prompt.goal],
    }
    return Problem(row.problem_id, "train", row.subset, row.prompt, facts)


def test_a_trace_visits_the_chain_from_the_root_forwards_and_from_the_goal_in_reverse() -> None:
    for problem in PROBLEMS:
        prompt = seen(problem.prompt)
        chain = [prompt.right]
        while chain[-1] != prompt.goal:
            chain.append(prompt.following[chain[-1]])
        forward, reverse = SHORT.solutions(problem)
        assert (forward.mode, reverse.mode) == ("forward", "reverse")
        told = [claims(line)[0][0] for line in forward.text.split("\n")[:-1]]
        assert told == chain
        told = [claims(line)[0][0] for line in reverse.text.split("\n")[:-1]]
        assert told == [*chain[::-1], prompt.root]


def corrupted(text: str, names: Sequence[str], data: st.DataObject) -> str:
    lines = text.split("\n")
    i, j = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    match data.draw(st.sampled_from(["number", "name", "swap", "drop", "repeat", "letter"])):
        case "number":
            numbers = list(re.finditer(r"\d+", text))
            spot = data.draw(st.sampled_from(numbers))
            other = data.draw(st.integers(0, 400))
            return f"{text[: spot.start()]}{other}{text[spot.end() :]}"
        case "name":
            spots = list(re.finditer(r"\b[a-z]\b", text))
            spot = data.draw(st.sampled_from(spots))
            other_name = data.draw(st.sampled_from(names))
            return f"{text[: spot.start()]}{other_name}{text[spot.end() :]}"
        case "swap":
            lines[i], lines[j] = lines[j], lines[i]
        case "drop":
            del lines[i]
        case "repeat":
            lines.insert(j, lines[i])
        case "letter":
            at = data.draw(st.integers(0, len(text)))
            added = data.draw(st.sampled_from(" +-=.1az\n{}"))
            return text[:at] + added + text[at + data.draw(st.integers(0, 1)) :]
    return "\n".join(lines)


@settings(deadline=None, max_examples=600)
@given(st.sampled_from(PROBLEMS), st.integers(0, 1), st.data())
def test_every_corrupted_trace_is_found(problem: Problem, which: int, data: st.DataObject) -> None:
    right = [trace.text for trace in TASK.solutions(problem)]
    text = corrupted(right[which], sorted(seen(problem.prompt).values), data)
    assume(text not in right)
    assert TASK.check_trace(problem, text) is not None


@pytest.mark.parametrize("problem", PROBLEMS[:2] + PROBLEMS[-2:], ids=lambda problem: problem.id)
def test_the_checker_says_what_is_not_right(problem: Problem) -> None:
    forward, reverse = (trace.text for trace in TASK.solutions(problem))
    prompt = seen(problem.prompt)
    wrong = next(first for first in prompt.firsts if first != prompt.right)
    lost = dict(problem.facts, target=prompt.end(wrong))
    lost_trace = equations.System(lost).forward()
    answer = str(problem.facts["answer"])
    lines = forward.split("\n")
    for text, found in [
        ("", equations.NO_STEP),
        (rf"\boxed{{{answer}}}", equations.NO_STEP),
        (lost_trace, equations.OTHER_END),
        ("\n".join([lines[0], lines[-1]]), equations.OTHER_END),
        ("\n".join([lines[0], *lines[2:]]), equations.NO_LINK),
        ("\n".join([lines[0], "2. so on", *lines[2:]]), equations.NO_EQUATION),
        (forward.replace("2. ", "3. "), equations.MISTAKE),
        (reverse.replace("2. ", "3. "), equations.MISTAKE),
        (forward.replace(rf"\boxed{{{answer}}}", r"\boxed{9999}"), equations.OTHER_ANSWER),
        (reverse.replace(rf"\boxed{{{answer}}}", r"\boxed{9999}"), equations.OTHER_ANSWER),
        (
            reverse.replace(f"{prompt.root} = {prompt.value},", f"{prompt.root} = 0,"),
            equations.MISTAKE,
        ),
    ]:
        assert TASK.check_trace(problem, text) == found, text


# --- verdicts -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(PROBLEMS), st.integers(-500, 500), st.text("ab \n=1", max_size=10))
def test_the_last_boxed_integer_decides(problem: Problem, number: int, before: str) -> None:
    prompt = seen(problem.prompt)
    ends = {prompt.values[prompt.end(first)] for first in prompt.firsts}
    verdict = TASK.verify(problem, rf"{before}\boxed{{7}} then \boxed{{{number}}}.")
    assert verdict.answer == str(number)
    if number == problem.facts["answer"]:
        assert (verdict.outcome, verdict.detail) == (Outcome.CORRECT, "")
    else:
        lost = number in ends
        assert verdict.outcome is Outcome.WRONG
        assert verdict.detail == (module.OTHER_END if lost else module.OTHER_VALUE)


def test_the_value_of_another_end_is_distinguished_from_other_values() -> None:
    for problem in PROBLEMS:
        prompt = seen(problem.prompt)
        for first in prompt.firsts:
            verdict = TASK.verify(problem, rf"\boxed{{{prompt.values[prompt.end(first)]}}}")
            right = first == prompt.right
            assert verdict.detail == ("" if right else module.OTHER_END)
        assert TASK.verify(problem, r"\boxed{123456}").detail == module.OTHER_VALUE


@pytest.mark.parametrize("form", ["{}", " {} ", "${}$", "$ {} $", "\n{}\n"])
def test_spaces_dollars_zeros_and_signs_do_not_change_a_number(form: str) -> None:
    for problem in PROBLEMS:
        answer = problem.facts["answer"]
        spellings = [f"{answer}", f"{'-' * (answer < 0)}00{abs(answer)}", f"{answer:+}"]
        for spelling in [*spellings, str(answer).replace("-", "−")]:
            verdict = TASK.verify(problem, rf"\boxed{{{form.format(spelling)}}}")
            assert (verdict.outcome, verdict.answer) == (Outcome.CORRECT, str(answer))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", module.NO_BOX),
        ("15", module.NO_BOX),
        (r"\boxed{15", module.NO_BOX),
        (r"\boxed{15} or \boxed{", module.NO_BOX),
        (r"\boxed{}", module.NO_INTEGER),
        (r"\boxed{z = 15}", module.NO_INTEGER),
        (r"\boxed{1.5}", module.NO_INTEGER),
        (r"\boxed{1 5}", module.NO_INTEGER),
        (r"\boxed{1,500}", module.NO_INTEGER),
        (r"\boxed{--3}", module.NO_INTEGER),
        (r"\boxed{٣}", module.NO_INTEGER),
        (r"\boxed{15} so \boxed{fifteen}", module.NO_INTEGER),
    ],
)
def test_a_box_without_an_integer_is_unparsable(text: str, detail: str) -> None:
    verdict = TASK.verify(PROBLEMS[0], text)
    assert (verdict.outcome, verdict.answer) == (Outcome.UNPARSABLE, None)
    assert verdict.detail == detail


def test_a_number_of_ten_thousand_digits_is_a_wrong_answer() -> None:
    verdict = TASK.verify(PROBLEMS[0], rf"\boxed{{{'9' * 10_000}}}")
    assert verdict.outcome is Outcome.WRONG


def test_the_mode_is_read_off_the_first_step() -> None:
    for problem in PROBLEMS:
        prompt = seen(problem.prompt)
        root, goal, first = prompt.root, prompt.goal, prompt.firsts[0]
        before = prompt.lines[prompt.at[goal]][1]
        inside = prompt.following[first]
        for text, mode in [
            (f"We know {root} = 3. Then {first} = {root} + 2 = 5.", "forward"),
            (f"So \\({first} = 3 + 2\\), and {goal} = {before} + 1", "forward"),
            (f"We want {goal} = ?. First {first}={root}-2.", "forward"),
            (f"{goal} = {before} + 2, and {first} = {root} + 1", "reverse"),
            (f"{inside} = {first} + 2. {first} = {root} + 1", ""),
            (f"The answer is {goal} = 12.", ""),
            ("", ""),
        ]:
            assert TASK.verify(problem, text).mode == mode, text


def test_strict_accepts_the_listed_traces_only_and_so_has_exact_probabilities() -> None:
    strict = ArithmeticChain(ArithmeticChainConfig(length=3, high=3, strict=True))
    assert strict.exhaustive and not SHORT.exhaustive
    for problem in strict.heldout("test", 8):
        for trace in strict.solutions(problem):
            assert strict.verify(problem, trace.text).outcome is Outcome.CORRECT
            longer = trace.text.replace("The answer", "So the answer")
            verdict = strict.verify(problem, longer)
            assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, module.WRONG_STEP)
            assert SHORT.verify(problem, longer).outcome is Outcome.CORRECT
    for problem, text, outcome in strict.canaries():
        assert strict.verify(problem, text).outcome is outcome


def test_problems_and_fingerprints_are_the_same_with_strict_left_out() -> None:
    assert "strict" not in ArithmeticChainConfig().model_dump()
    strict = ArithmeticChain(TASK.config.model_copy(update={"strict": True}))
    assert strict.heldout("test", 4) == TASK.heldout("test", 4)


def test_every_canary_gets_the_verdict_it_is_known_to_deserve() -> None:
    for task in (TASK, SHORT, shaped(8, 12, 260)):
        canaries = task.canaries()
        assert {outcome for _, _, outcome in canaries} >= {Outcome.CORRECT, Outcome.WRONG}
        for problem, text, outcome in canaries:
            assert task.verify(problem, text).outcome is outcome, text


# --- forks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_forward_trace_has_one_fork_at_its_first_variable_and_a_reverse_one_none(
    shape: tuple[int, int, int],
) -> None:
    task = shaped(*shape)
    for problem in task.heldout("test", 20):
        prompt = seen(problem.prompt)
        forward, reverse = task.solutions(problem)
        met = task.forks(problem, forward.text)
        assert met is not None
        (fork,) = met
        assert list(fork.branches) == sorted(prompt.firsts)
        assert fork.valid == (prompt.right,)
        assert fork.signed == bool(prompt.marked)
        assert forward.text[: fork.at] == "1. "
        # no branch begins another: the text from `at` on names one of them
        (taken,) = (one for one in fork.branches if forward.text.startswith(one, fork.at))
        assert taken == prompt.right
        assert task.forks(problem, reverse.text) == []
        assert task.forks(problem, rf"\boxed{{{problem.facts['answer']}}}") is None


def test_build_gives_the_task_of_its_config() -> None:
    task = build(ArithmeticChainConfig(chains=4, length=3))
    assert isinstance(task, ArithmeticChain)
    (problem, _) = task.heldout("test", 2)
    assert len(seen(problem.prompt).firsts) == 4
    assert task.subsets == ("signed", "unsigned")
