"""A cell's forks are what its problems' forks are on average."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.coverage import stats
from forkdiv.coverage.fork_summary import ForkNode, ForkProbabilities, at_forks

KS = (1, 2, 64)


def a_node(problem: int, *chances: float, **fields: Any) -> ForkNode:
    """A fork whose first branch is the right one."""
    branches = tuple("bcdefgh"[: len(chances)])
    node = ForkNode(problem, "a ", 1, False, 1.0, branches, branches[:1], chances)
    return replace(node, **fields)


def of(*nodes: ForkNode, problems: int | None = None) -> ForkProbabilities:
    count = problems or 1 + max(node.problem for node in nodes)
    return ForkProbabilities(np.full(count, 0.25), np.full(count, 0.5), nodes)


def seen(read: ForkProbabilities, rows: list[int] | None = None) -> dict[str, Any]:
    rows = list(range(len(read.p))) if rows is None else rows
    weights = stats.bootstrap_weights(["x"] * len(rows), 200, 0)
    return at_forks(read, rows, KS, weights, 0.95).as_json()


def test_numbers_are_means_over_problems() -> None:
    (fork,) = seen(of(a_node(0, 0.5, 0.25, 0.25), a_node(1, 0.1, 0.1, 0.6)))["depths"]
    even = [0.125, 0.125, 0.75]
    assert (fork["depth"], fork["signed"], fork["problems"]) == (1, False, 2)
    assert fork["branches"] == 3
    assert fork["accuracy"]["value"] == pytest.approx(0.3)
    assert fork["accuracy"]["low"] <= 0.3 <= fork["accuracy"]["high"]
    assert fork["chance"] == pytest.approx(1 / 3)
    entropies = [1.5 * math.log(2), -sum(p * math.log(p) for p in even)]
    assert fork["entropy"] == pytest.approx(sum(entropies) / 2)
    assert fork["uniform"] == pytest.approx(math.log(3))
    assert fork["off"] == pytest.approx(0.1)
    assert fork["shares"] == pytest.approx([0.55, 0.175, 0.175])


def test_losses_at_forks_and_elsewhere_follow_from_q_and_p() -> None:
    read = ForkProbabilities(np.array([0.0, 0.2, 1.0]), np.array([0.5, 0.4, 1.0]), ())
    found = seen(read, [0, 1])
    assert found["depths"] == []
    assert found["pass_at"]["2"] == pytest.approx((0 + 1 - 0.8**2) / 2)
    assert found["fork_pass_at"]["2"] == pytest.approx((1 - 0.5**2 + 1 - 0.6**2) / 2)
    assert list(found["pass_at"]) == list(found["fork_pass_at"]) == ["1", "2", "64"]
    assert seen(read, [2])["pass_at"]["64"] == 1.0


def test_forks_are_grouped_by_depth_and_kind_with_signed_first() -> None:
    nodes = [
        a_node(0, 0.3, 0.7, depth=2),
        a_node(0, 0.1, 0.9, depth=1),
        a_node(1, 0.8, 0.2, signed=True),
        a_node(2, 0.5, 0.5, depth=2),
    ]
    found = seen(of(*nodes))["depths"]
    kinds = [(one["depth"], one["signed"], one["problems"]) for one in found]
    assert kinds == [(1, True, 1), (1, False, 1), (2, False, 2)]
    assert [one["accuracy"]["value"] for one in found] == pytest.approx([0.8, 0.1, 0.4])


def test_a_subset_uses_only_its_own_problems() -> None:
    read = of(*(a_node(i, 0.1 * i, 1 - 0.1 * i) for i in range(6)))
    (fork,) = seen(read, [4, 2])["depths"]
    assert fork["problems"] == 2
    assert fork["accuracy"]["value"] == pytest.approx(0.3)
    assert 0 <= fork["accuracy"]["low"] < 0.3 < fork["accuracy"]["high"] <= 1


def test_forks_of_one_problem_count_by_their_weight() -> None:
    nodes = [
        a_node(0, 1.0, 0.0, weight=0.25),
        a_node(0, 0.2, 0.8, weight=0.75, prefix="a b "),
        a_node(1, 0.5, 0.3),
    ]
    (fork,) = seen(of(*nodes))["depths"]
    assert fork["problems"] == 2
    assert fork["accuracy"]["value"] == pytest.approx((0.25 + 0.15 + 0.5) / 2)
    assert fork["shares"] == pytest.approx([(0.25 + 0.6 + 0.5) / 2, (0.15 + 0.3) / 2])
    assert fork["off"] == pytest.approx(0.1)


def test_forks_with_different_numbers_of_branches_are_one_kind() -> None:
    (fork,) = seen(of(a_node(0, 0.5, 0.5), a_node(1, 0.25, 0.25, 0.25, 0.25)))["depths"]
    assert fork["branches"] == 3
    assert fork["chance"] == pytest.approx(0.375)
    assert fork["entropy"] == fork["uniform"] == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert fork["shares"] == pytest.approx([0.375, 0.375, 0.125, 0.125])


def test_all_of_several_valid_branches_are_right() -> None:
    node = a_node(0, 0.5, 0.2, 0.1, valid=("b", "d"))
    (fork,) = seen(of(node))["depths"]
    assert fork["accuracy"]["value"] == pytest.approx(0.6)
    assert fork["chance"] == pytest.approx(2 / 3)


def test_a_model_that_takes_no_branch_has_no_entropy_over_them() -> None:
    (fork,) = seen(of(a_node(0, 0.0, 0.0)))["depths"]
    assert (fork["entropy"], fork["off"], fork["accuracy"]["value"]) == (0.0, 1.0, 0.0)
    assert fork["shares"] == [0.0, 0.0]


def test_limits_are_those_over_the_problems_that_have_the_fork() -> None:
    nodes = [a_node(i, 0.1 * i, 1 - 0.1 * i, signed=i % 2 == 0) for i in range(10)]
    weights = stats.bootstrap_weights(["odd" if i % 2 else "even" for i in range(10)], 300, 1)
    signed, unsigned = at_forks(of(*nodes), range(10), KS, weights, 0.9).as_json()["depths"]
    for fork, rows in ((signed, range(0, 10, 2)), (unsigned, range(1, 10, 2))):
        part = weights[:, list(rows)] / weights[:, list(rows)].sum(axis=1, keepdims=True)
        values = np.array([[0.1 * i] for i in rows])
        (expected,) = stats.mean_intervals(values, part, 0.9)
        assert fork["accuracy"]["low"] == pytest.approx(expected.low)
        assert fork["accuracy"]["high"] == pytest.approx(expected.high)


def test_a_replicate_that_drew_no_problem_with_the_fork_is_left_out() -> None:
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    (fork,) = at_forks(of(a_node(1, 0.7, 0.3)), [0, 1], KS, weights, 0.95).as_json()["depths"]
    assert fork["problems"] == 1
    assert 0 <= fork["accuracy"]["low"] <= 0.7 <= fork["accuracy"]["high"] <= 1


@settings(deadline=None, max_examples=50)
@given(
    chances=st.lists(
        st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda row: sum(row) > 0),
        min_size=1,
        max_size=8,
    )
)
def test_shares_fall_and_leave_what_is_off(chances: list[list[float]]) -> None:
    nodes = [a_node(i, *(c / sum(row) for c in row[:3])) for i, row in enumerate(chances)]
    found = seen(of(*nodes))
    (fork,) = found["depths"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert fork["shares"] == sorted(fork["shares"], reverse=True)
    assert sum(fork["shares"]) + fork["off"] == pytest.approx(1)
    assert fork["accuracy"]["value"] <= fork["shares"][0] + 1e-9
    assert -1e-12 <= fork["entropy"] <= fork["uniform"] + 1e-9


@pytest.mark.parametrize("rows", [[], [0, 0]])
def test_empty_or_repeated_rows_are_refused(rows: list[int]) -> None:
    weights = np.full((10, len(rows)), 0.5)
    with pytest.raises(ValueError, match="one or more distinct problems, got"):
        at_forks(of(a_node(0, 0.5, 0.5)), rows, KS, weights, 0.95)


@pytest.mark.parametrize("shape", [(10, 2), (1,), (10, 1, 1)])
def test_weights_of_other_problems_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weights must have shape \(replicates, 1\), got"):
        at_forks(of(a_node(0, 0.5, 0.5)), [0], KS, np.ones(shape), 0.95)
