"""What training data and marks elsewhere tell of an unsigned fork: nothing.

How it is tested and with which power: see tests/shortcuts.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.graph_prompts import Seen, Shape, View, drawn, named, seen, shaped, view
from tests.shortcuts import (
    ADVANTAGE,
    COUNT,
    DEFAULT,
    LEARNT_LOOKS,
    POLICIES,
    POWER,
    ROW,
    SHAPES,
    Policy,
    Scores,
    at_chance,
    chance_of,
    looked,
    power,
    prompts,
)


def local_features(v: View) -> NDArray[np.int64]:
    """What is local about each branch, coarsely, as one number: its places and the order of its
    name, all relative to the goal. Shape (prompts, branches)."""
    width = v.place.shape[1]
    order = np.argsort(np.argsort(v.name, axis=1), axis=1)
    around_goal = 4 * ((v.onward - v.first_goal_edge) % v.edges) // v.edges
    after_goal = 3 * ((v.place - v.first_goal_edge) % v.edges) // v.edges
    columns = np.broadcast_to(np.arange(width), v.place.shape)
    return np.asarray(((columns * width + order) * 4 + around_goal) * 3 + after_goal)


def by_name(v: View) -> NDArray[np.int64]:
    return v.name


def by_name_and_goal(v: View) -> NDArray[np.int64]:
    return np.asarray(v.name * 10_000 + v.goal)


def learnt(feature: Callable[[View], NDArray[np.int64]], seen_there: View) -> Policy:
    """The policy that takes the branch whose feature was right most often in `seen_there`."""
    right: Counter[int] = Counter()
    every: Counter[int] = Counter()
    for values, valid in zip(feature(seen_there).tolist(), seen_there.valid, strict=True):
        for value, good in zip(values, valid.tolist(), strict=True):
            every[value] += 1
            right[value] += good

    def policy(v: View) -> Scores:
        table = {key: -(right[key] + 1) / (every[key] + 2) for key in every}
        values = feature(v)
        return np.array([[table.get(value, -0.5) for value in row] for row in values.tolist()])

    return policy


@cache
def other_prompts(shape: Shape) -> list[Seen]:
    return drawn(shape, COUNT, seed=1)


FEATURES = (local_features, by_name)
LEARNT = [(DEFAULT, 0), (ROW, 0), (ROW, 1)]


@pytest.mark.parametrize(("shape", "at"), LEARNT, ids=str)
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.__name__)
def test_frequencies_learnt_from_training_data_score_chance(
    feature: Callable[[View], NDArray[np.int64]], shape: Shape, at: int
) -> None:
    policy = learnt(feature, looked(shape, at))
    fresh = view(other_prompts(shape), at)
    assert at_chance(fresh.hits(policy(fresh)), COUNT, chance_of(shape))


@pytest.fixture(scope="module")
def heldout() -> View:
    problems = shaped(DEFAULT).heldout("test", 2 * COUNT)
    return view([seen(one.prompt) for one in problems if one.subset == "unsigned"], 0)


def test_frequencies_of_the_training_split_tell_nothing_of_heldout_forks(heldout: View) -> None:
    policy = learnt(by_name_and_goal, looked(DEFAULT, 0))
    assert at_chance(heldout.hits(policy(heldout)), COUNT, chance_of(DEFAULT))


def test_heldout_unsigned_forks_give_nothing_away_either(heldout: View) -> None:
    hits = {name: heldout.hits(policy(heldout)) for name, policy in POLICIES.items()}
    found = {name: n for name, n in hits.items() if not at_chance(n, COUNT, chance_of(DEFAULT))}
    assert found == {}


# --- marks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_following_the_mark_is_always_right_at_every_signed_fork(shape: Shape) -> None:
    signed = drawn(shape, 300, density=0.0)
    for at in range(shape[2]):
        v = view(signed, at)
        assert v.hits(POLICIES["marked"](v)) == len(signed)
        assert (v.marked == v.valid).all()


ELSEWHERE: dict[str, Policy] = {
    "nearest a mark": lambda v: v.nearest_mark,
    "farthest from a mark": lambda v: -v.nearest_mark,
    "first listed": lambda v: v.place,
    "nearest the goal's edge": lambda v: abs(v.place - v.first_goal_edge),
    "leads on first": lambda v: v.onward,
}


@pytest.fixture(scope="module")
def between_marks() -> list[View]:
    """Unsigned forks of problems whose other fork is signed, by their place in the row."""
    mixed = [one for one in drawn(ROW, 4 * COUNT // 2, density=0.5) if len(one.marked) == 1]
    views = []
    for at in range(2):
        here = [one for one in mixed if one.edges[one.marked[0]][0] != one.forks[at]]
        views.append(view(here, at))
    return views


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_mark_of_another_fork_tells_nothing(between_marks: list[View], name: str) -> None:
    count = sum(len(v.place) for v in between_marks)
    assert count >= 0.97 * COUNT and power(count, 1 / 3, 1 / 3 + ADVANTAGE) >= POWER
    assert not any(v.marked.any() for v in between_marks)
    hits = sum(v.hits(ELSEWHERE[name](v)) for v in between_marks)
    assert at_chance(hits, count, 1 / 3)


def test_no_more_is_tested_here_than_the_correction_allows_for() -> None:
    assert len(FEATURES) * len(LEARNT) + 1 + len(ELSEWHERE) <= LEARNT_LOOKS


def test_data_that_is_signed_throughout_tells_no_policy_but_the_one_that_reads_marks() -> None:
    # densities differ in the mark alone, so that no other policy may gain from it
    few = 1000
    signed, plain = view(drawn(DEFAULT, few, density=0.0), 0), view(prompts(DEFAULT)[:few], 0)
    for name, policy in POLICIES.items():
        same = signed.hits(policy(signed)) == plain.hits(policy(plain))
        assert same == (name != "marked")
