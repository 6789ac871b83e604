r"""Arithmetic chains: traces that hold line by line, exact shares, and a fork nothing gives away.

What a shortcut could read (positions, names, numbers, the order of the listing) is read here
from the prompt alone, as a model reads it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example, Outcome, Problem
from forkdiv.tasks import arithmetic_chain as module
from forkdiv.tasks import equations
from forkdiv.tasks.arithmetic_chain import ArithmeticChain, ArithmeticChainConfig
from forkdiv.tasks.registry import build

TASK = ArithmeticChain(ArithmeticChainConfig())
SHORT = ArithmeticChain(ArithmeticChainConfig(length=3))
SHAPES = [(2, 10, 26), (3, 4, 26), (4, 3, 13), (8, 12, 260)]
PROBLEMS = [*TASK.heldout("test", 8), *SHORT.heldout("validation", 8)]


def shaped(chains: int, length: int, names: int, **more: int) -> ArithmeticChain:
    config = {"chains": chains, "length": length, "names": names, **more}
    return ArithmeticChain(ArithmeticChainConfig.model_validate(config))


def data(task: ArithmeticChain, **config: float) -> list[Example]:
    return list(task.sft_examples(DatasetConfig.model_validate(config)))


@dataclass(frozen=True)
class Seen:
    """A prompt taken apart, knowing only how prompts are written."""

    lines: tuple[tuple[str, str, int], ...]  # variable, parent, change, in the order listed
    marked: tuple[int, ...]
    root: str
    value: int
    goal: str

    @cached_property
    def at(self) -> dict[str, int]:
        """Where each variable's equation is listed."""
        return {variable: i for i, (variable, _, _) in enumerate(self.lines)}

    @cached_property
    def following(self) -> dict[str, str]:
        return {parent: variable for variable, parent, _ in self.lines if parent != self.root}

    @cached_property
    def firsts(self) -> list[str]:
        """The variables to choose from, in the order their equations are listed."""
        return [variable for variable, parent, _ in self.lines if parent == self.root]

    @cached_property
    def values(self) -> dict[str, int]:
        """What every variable is worth."""
        values = {self.root: self.value}
        while len(values) <= len(self.lines):
            known = [one for one in self.lines if one[1] in values]
            values |= {variable: values[parent] + change for variable, parent, change in known}
        return values

    @cached_property
    def right(self) -> str:
        """The first step to the goal, by walking back from it."""
        name = self.goal
        while name not in self.firsts:
            name = self.lines[self.at[name]][1]
        return name

    def end(self, first: str) -> str:
        while first in self.following:
            first = self.following[first]
        return first

    def change(self, name: str) -> int:
        return self.lines[self.at[name]][2]

    @property
    def links(self) -> frozenset[tuple[str, str]]:
        return frozenset((parent, variable) for variable, parent, _ in self.lines)


def seen(prompt: str) -> Seen:
    _, listing, question = prompt.split("\n\n")
    lines, marked = [], []
    for i, line in enumerate(listing.split("\n")):
        match = re.fullmatch(r"(\w+) = (\w+) ([+-]) (\d+)( \(\*\))?", line)
        assert match
        change = int(match[3] + match[4])
        lines.append((match[1], match[2], change))
        marked += [i] if match[5] else []
    asked = re.match(r"The value of (\w+) is (-?\d+)\. What is the value of (\w+)\?\n", question)
    assert asked and r"\boxed{}" in question
    return Seen(tuple(lines), tuple(marked), asked[1], int(asked[2]), asked[3])


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


# --- splits -------------------------------------------------------------------------------------


def links(rows: Iterable[Example | Problem]) -> set[frozenset[tuple[str, str]]]:
    return {seen(row.prompt).links for row in rows}


def test_no_problem_is_in_two_splits_whatever_the_seeds() -> None:
    # of 20,160 ways to link the variables, so that splits drawn blindly would share hundreds
    found: dict[str, set[frozenset[tuple[str, str]]]] = {}
    for seed in range(3):
        task = shaped(2, 3, 8, seed=seed)
        rows = data(task, examples=1500, seed=seed, direction=seed / 2)
        found["train"] = found.get("train", set()) | links(rows)
        for split in ("validation", "test"):
            found[split] = found.get(split, set()) | links(task.heldout(split, 600))
    assert all(len(one) > 700 for one in found.values())
    assert sum(map(len, found.values())) == len(set.union(*found.values()))


def test_a_split_is_decided_by_the_links_and_by_nothing_else() -> None:
    # other seeds give other numbers, listings, marks and targets to the same links
    ways: dict[frozenset[tuple[str, str]], set[str]] = {}
    goals: dict[frozenset[tuple[str, str]], set[str]] = {}
    for seed in range(4):
        for row in data(shaped(2, 3, 7), examples=600, seed=seed):
            prompt = seen(row.prompt)
            ways.setdefault(prompt.links, set()).add(row.prompt)
            goals.setdefault(prompt.links, set()).add(prompt.goal)
    assert sum(len(one) > 2 for one in ways.values()) > 100
    assert sum(len(one) == 2 for one in goals.values()) > 100
    task = shaped(2, 3, 7)
    heldout = links(task.heldout("test", 200)) | links(task.heldout("validation", 100))
    assert not heldout & set(ways)


def test_a_set_of_examples_has_no_problem_twice() -> None:
    examples = data(shaped(2, 3, 8), examples=3000)
    problems = {(seen(row.prompt).links, seen(row.prompt).goal) for row in examples}
    assert len(problems) == len({row.problem_id for row in examples}) == 3000


def test_heldout_problems_are_half_signed_and_half_unsigned_in_the_asked_split() -> None:
    for split in ("validation", "test"):
        problems = SHORT.heldout(split, 50)
        assert Counter(problem.subset for problem in problems) == {"signed": 25, "unsigned": 25}
        assert {problem.split for problem in problems} == {split}
        assert len({problem.id for problem in problems}) == 50
    assert len(TASK.heldout("test")) == 1000


def test_a_longer_list_of_heldout_problems_begins_with_the_shorter() -> None:
    assert TASK.heldout("test", 60)[:30] == TASK.heldout("test", 30)


def test_heldout_problems_are_the_same_whatever_was_made_before() -> None:
    task = shaped(2, 10, 26)
    before = task.heldout("test", 20)
    data(task, examples=30, seed=9, fork_density=0.2)
    assert task.heldout("test", 20) == before == TASK.heldout("test", 20)
    assert links(shaped(2, 10, 26, seed=1).heldout("test", 20)).isdisjoint(links(before))


def test_more_problems_than_there_are_are_refused() -> None:
    task = shaped(2, 3, 7)
    with pytest.raises(UserError, match="too few distinct problems for the test split"):
        task.heldout("test", 4000)
    with pytest.raises(UserError, match="too few distinct problems for the train split"):
        data(task, examples=4000)
    with pytest.raises(UserError, match="must be a multiple of the task"):
        task.heldout("test", 3)
    assert len(task.heldout("test", task.available("test") // 2 * 2)) > 400


def test_names_that_do_not_suffice_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"allowed: at least 31; raise task\.names"):
        ArithmeticChainConfig(chains=3, length=10)


# --- the knobs of the data ----------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_the_shares_of_the_knobs_are_exact(
    count: int, density: float, direction: float, seed: int
) -> None:
    rows = data(SHORT, examples=count, fork_density=density, direction=direction, seed=seed)
    forward = [row for row in rows if row.mode == "forward"]
    assert len(rows) == count
    assert len(forward) == round(direction * count)
    assert sum(row.subset == "unsigned" for row in rows) == round(density * count)
    met = sum(row.subset == "unsigned" for row in forward)
    assert abs(met - density * len(forward)) <= count.bit_length() / 2 + 2
    for row in rows:
        assert len(seen(row.prompt).marked) == (row.subset == "signed")
        assert row.forks == (row.mode == "forward")
        assert row.unsigned_forks == (row.forks and row.subset == "unsigned")


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
def test_densities_differ_in_nothing_but_the_mark(
    first: float, second: float, direction: float, seed: int
) -> None:
    few, many = (
        data(SHORT, examples=40, fork_density=density, direction=direction, seed=seed)
        for density in sorted((first, second))
    )
    for less, more in zip(few, many, strict=True):
        assert less.prompt.replace(" (*)", "") == more.prompt.replace(" (*)", "")
        assert (less.response, less.mode, less.facts) == (more.response, more.mode, more.facts)
        assert less.subset == more.subset or (less.subset, more.subset) == ("signed", "unsigned")


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
def test_a_smaller_share_of_forward_traces_is_within_a_larger(
    first: float, second: float, seed: int
) -> None:
    few, many = (
        data(SHORT, examples=40, direction=direction, seed=seed)
        for direction in sorted((first, second))
    )
    for less, more in zip(few, many, strict=True):
        assert (less.prompt, less.facts) == (more.prompt, more.facts)
        assert less.mode == more.mode or (less.mode, more.mode) == ("reverse", "forward")


def test_a_dataset_seed_draws_other_problems_and_the_same_seed_the_same() -> None:
    first, again, other = (data(SHORT, examples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert links(first).isdisjoint(links(other))


def test_a_knob_of_another_task_is_refused() -> None:
    TASK.check_knobs(DatasetConfig(fork_density=0.1, direction=0.2))
    with pytest.raises(UserError, match=r"dataset\.branch_coverage has no effect on this task"):
        TASK.check_knobs(DatasetConfig(branch_coverage=2))


def test_build_gives_the_task_of_its_config() -> None:
    task = build(ArithmeticChainConfig(chains=4, length=3))
    assert isinstance(task, ArithmeticChain)
    (problem, _) = task.heldout("test", 2)
    assert len(seen(problem.prompt).firsts) == 4
    assert task.subsets == ("signed", "unsigned")
