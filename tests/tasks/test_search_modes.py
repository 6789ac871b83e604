"""Search modes: every correct response is listed, and nothing but a look-ahead tells the arm."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Outcome, Problem
from forkdiv.tasks.search_modes import (
    BACK,
    BACKTRACKING,
    BROKEN_PATH,
    LINEAR,
    MODE_OF,
    OTHER_END,
    TORN_ARM,
    SearchModes,
    SearchModesConfig,
)

TASK = SearchModes(SearchModesConfig())
PROBLEMS = TASK.heldout("test", 12)
WORDS = TASK.vocabulary()[5:]


def arms(problem: Problem) -> tuple[list[str], list[list[str]]]:
    """The right arm and the others, read from the prompt alone."""
    listed = problem.prompt.split()[1:-5]
    edges = [tuple(edge.split(">")) for edge in listed]
    start, goal = problem.prompt.split()[-4], problem.prompt.split()[-2]
    onward = {a: b for a, b in edges if a != start}
    found = []
    for _, first in (edge for edge in edges if edge[0] == start):
        arm = [start, first]
        while arm[-1] in onward:
            arm.append(onward[arm[-1]])
        found.append(arm)
    (right,) = [arm for arm in found if arm[-1] == goal]
    return right, [arm for arm in found if arm != right]


def test_all_listed_solutions_are_correct_and_different() -> None:
    for problem in PROBLEMS:
        texts = TASK.solutions(problem)
        assert len({trace.text for trace in texts}) == len(texts) == 4 + 4 * (1 + 2 + 2)
        for trace in texts:
            verdict = TASK.verify(problem, trace.text)
            assert (verdict.outcome, verdict.mode) == (Outcome.CORRECT, trace.mode)
            assert len(trace.text.split()) + 1 <= TASK.longest_response()


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(PROBLEMS), st.integers(0, 23), st.data())
def test_a_corrupted_response_is_correct_only_where_it_is_listed(
    problem: Problem, which: int, data: st.DataObject
) -> None:
    solutions = {trace.text for trace in TASK.solutions(problem)}
    words = TASK.solutions(problem)[which].text.split()
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(words) - 1))
        match data.draw(st.sampled_from(["drop", "replace", "insert", "swap"])):
            case "drop" if len(words) > 1:
                del words[at]
            case "replace":
                words[at] = data.draw(st.sampled_from(WORDS))
            case "insert":
                words.insert(at, data.draw(st.sampled_from(WORDS)))
            case "swap":
                other = data.draw(st.integers(0, len(words) - 1))
                words[at], words[other] = words[other], words[at]
    text = " ".join(words)
    assert (TASK.verify(problem, text).outcome is Outcome.CORRECT) == (text in solutions)


@pytest.mark.parametrize("problem", PROBLEMS[:3], ids=lambda problem: problem.id)
def test_the_verdict_has_the_reason_of_a_wrong_response(problem: Problem) -> None:
    right, (other, third) = arms(problem)
    joined = " ".join
    cases = [
        (joined(["To", *other]), OTHER_END),
        (joined(["To", *right[:-1]]), OTHER_END),
        (joined(["To", right[0], right[-1]]), BROKEN_PATH),
        (joined(["To", *other, BACK, *right]), TORN_ARM),
        (joined(["Okay", *other[:2], BACK, *right]), TORN_ARM),
        (joined(["Okay", *other, BACK, *other, BACK, *right]), TORN_ARM),
        (joined(["Okay", *right, BACK, *right]), TORN_ARM),
        (joined(["Okay", *right, BACK, *third]), OTHER_END),
    ]
    for text, detail in cases:
        verdict = TASK.verify(problem, text)
        assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, detail), text


@pytest.mark.parametrize("text", ["", "a b", "To", "go a b", "To a > b", "Okay a back", "To To a"])
def test_a_response_without_a_mode_is_unparsable(text: str) -> None:
    assert TASK.verify(PROBLEMS[0], text).outcome is Outcome.UNPARSABLE


@pytest.mark.parametrize("solutions", [2, 4])
def test_the_structures_differ_in_nothing_but_the_structure(solutions: int) -> None:
    rows = {
        structure: list(
            TASK.sft_examples(DatasetConfig(examples=800, structure=structure, solutions=solutions))
        )
        for structure in ("data-level", "problem-level")
    }
    tuples = {
        name: {"problems": {row.problem_id for row in found}, "prompts": {r.prompt for r in found}}
        for name, found in rows.items()
    }
    assert tuples["data-level"] == tuples["problem-level"]
    assert len(tuples["data-level"]["problems"]) == 800 // solutions
    for name, found in rows.items():
        assert Counter(row.mode for row in found) == {LINEAR: 400, BACKTRACKING: 400}
        by_problem: dict[str, set[str]] = {}
        for row in found:
            by_problem.setdefault(row.problem_id, set()).add(row.mode)
        assert {len(modes) for modes in by_problem.values()} == {1 if name == "data-level" else 2}
        assert len({(row.problem_id, row.response) for row in found}) == 800
        openings = Counter(" ".join(row.response.split()[:2]).split(" ")[0] for row in found)
        assert all(abs(openings[opener] - 200) < 80 for opener in MODE_OF)


def test_every_example_verifies_and_meets_the_forks_that_are_counted() -> None:
    by_prompt = {}
    for row in TASK.sft_examples(DatasetConfig(examples=200)):
        edges = [edge.split(">") for edge in row.prompt.split()[1:-5]]
        words = row.prompt.split()
        facts = {"start": words[-4], "target": words[-2], "edges": edges}
        problem = Problem(row.problem_id, "train", row.subset, row.prompt, facts)
        by_prompt[row.prompt] = row
        assert TASK.verify(problem, row.response).outcome is Outcome.CORRECT
        assert len(TASK.forks(problem, row.response)) == row.forks == row.unsigned_forks


def test_linear_must_take_the_right_arm_and_backtracking_any_that_is_left() -> None:
    for problem in PROBLEMS:
        right, others = arms(problem)
        linear = TASK.forks(problem, " ".join(["Let", *right]))
        assert [len(fork.valid) for fork in linear] == [4, 1]
        assert linear[1].valid == (right[1],)
        text = " ".join(["Okay", *others[0], BACK, *others[1], BACK, *right])
        tried = TASK.forks(problem, text)
        assert [len(fork.branches) for fork in tried] == [4, 3, 2]  # of the last, no choice is left
        assert all(fork.valid == fork.branches for fork in tried)
        assert [text[fork.at :].split()[0] for fork in tried[1:]] == [others[0][1], others[1][1]]


def test_the_splits_share_no_problem() -> None:
    seeds = [SearchModes(SearchModesConfig(seed=seed)) for seed in range(3)]
    drawn = [
        {problem.id.split("-")[0] for task in seeds for problem in task.heldout(split, 60)}
        for split in ("validation", "test")
    ]
    drawn += [
        {
            row.problem_id.split("-")[0]
            for seed in range(3)
            for row in TASK.sft_examples(DatasetConfig(examples=400, seed=seed))
        }
    ]
    assert all(first.isdisjoint(second) for first, second in pairwise([*drawn, drawn[0]]))


def test_walks_for_a_base_end_anywhere_in_either_mode() -> None:
    walks = [
        walk.split()
        for row in TASK.walk_examples(PretrainConfig(examples=400, walks=6), "|")
        for walk in row.response.split("|")
    ]
    modes = Counter(MODE_OF[walk[0]] for walk in walks)
    assert abs(modes[LINEAR] - len(walks) / 2) < 4 * (len(walks) / 4) ** 0.5
    linear = [walk for walk in walks if MODE_OF[walk[0]] == LINEAR]
    lengths = Counter(len([word for word in walk[1:] if word != "go"]) for walk in linear)
    assert set(lengths) == {2, 3, 4}
    assert all(abs(count / len(linear) - 1 / 3) < 0.06 for count in lengths.values())


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (DatasetConfig(examples=100, solutions=3), "2 or 4"),
        (DatasetConfig(examples=101), "multiple of dataset.solutions"),
        (DatasetConfig(examples=100, mode_share=0.3), "whole number"),
        (DatasetConfig(examples=102), "whole number"),
    ],
)
def test_numbers_that_would_make_the_structures_unequal_are_refused(
    config: DatasetConfig, match: str
) -> None:
    with pytest.raises(UserError, match=match):
        list(TASK.sft_examples(config))
