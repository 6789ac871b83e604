"""The data of arithmetic chains: splits that share no problem, and exact shares of the knobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example, Problem
from forkdiv.tasks.arithmetic_chain import ArithmeticChainConfig
from tests.chain_prompts import SHORT, TASK, data, seen, shaped

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
