"""Rows that must stay together do, and halves are halves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.errors import UserError
from forkdiv.core.records import Example
from forkdiv.learnability.groups import groups, halves

WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heath",
    "inlet",
    "jetty",
    "kelp",
    "larch",
    "moss",
    "north",
]


def row(problem_id: str, prompt: str) -> Example:
    return Example(problem_id, prompt, "answer", "", "", 0, 0, "{}")


def text(number: int, words: int = 30) -> str:
    random = np.random.default_rng(number)
    return " ".join(f"{WORDS[i % len(WORDS)]}{i}" for i in random.integers(0, 999, words))


def unlike(count: int) -> list[Example]:
    return [row(f"u{i}", text(1000 + i)) for i in range(count)]


def test_equal_prompts_and_equal_ids_are_one_group() -> None:
    rows = [row("a", text(0)), row("b", text(0)), row("b", text(1)), *unlike(9)]
    found = groups(rows, 0.8)
    assert found[:3].tolist() == [0, 0, 0]
    assert len(set(found.tolist())) == 10


def test_near_duplicates_are_one_group_and_are_not_at_1() -> None:
    near = text(0).split()
    near[7] = "other"
    rows = [row("a", text(0)), row("b", " ".join(near).upper()), *unlike(9)]
    assert len(set(groups(rows, 0.7).tolist())) == 10
    assert len(set(groups(rows, 1.0).tolist())) == 11


def test_a_template_that_all_prompts_share_makes_no_duplicates() -> None:
    frame = text(5, 60)
    rows = [row(f"r{i}", f"{frame} {text(100 + i, 12)}") for i in range(60)]
    assert len(set(groups(rows, 0.5).tolist())) == 60


def test_chains_of_near_duplicates_are_one_group() -> None:
    words = text(0, 40).split()
    chain = []
    for i in range(4):
        chain.append(row(f"c{i}", " ".join(words)))
        words[3 * i] = f"new{i}"
    found = groups([*chain, *unlike(20)], 0.75)
    assert set(found[:4].tolist()) == {0}


def test_data_that_is_one_group_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be split into halves"):
        groups([row("same", text(i)) for i in range(10)], 0.8)


@given(st.integers(0, 50), st.lists(st.integers(1, 5), min_size=4, max_size=30))
def test_halves_keep_groups_whole_and_are_of_similar_size(seed: int, sizes: list[int]) -> None:
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    first = halves(group_of, seed, pair=0)
    for group in range(len(sizes)):
        assert len(set(first[group_of == group].tolist())) == 1
    assert abs(int(first.sum()) - int((~first).sum())) <= max(sizes)
    assert first.any() and not first.all()


def test_pairs_split_the_data_differently_and_repeatably() -> None:
    group_of = np.arange(100)
    a, b = halves(group_of, 0, 0), halves(group_of, 0, 1)
    assert 20 < int((a == b).sum()) < 80
    assert np.array_equal(a, halves(group_of, 0, 0))
    assert not np.array_equal(a, halves(group_of, 1, 0))
