"""A keyed shuffle: every index once, whatever the count, and shares that are exact and nested."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from forkdiv.core.shuffle import Shuffled, chosen, spread


@given(st.integers(1, 600), st.text(max_size=8))
def test_a_shuffle_is_a_permutation(count: int, key: str) -> None:
    order = Shuffled(count, key)
    assert sorted(order(i) for i in range(count)) == list(range(count))


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 1))
def test_shares_are_exact_and_a_smaller_one_is_within_a_larger(
    count: int, first: float, second: float
) -> None:
    small, large = sorted((first, second))
    few = {i for i in range(count) if i in chosen(count, small, "key")}
    many = {i for i in range(count) if i in chosen(count, large, "key")}
    assert len(few) == round(small * count)
    assert few <= many


def test_keys_give_different_orders() -> None:
    orders = {tuple(Shuffled(20, f"key {i}")(j) for j in range(20)) for i in range(50)}
    assert len(orders) == 50


@pytest.mark.parametrize("count", [5, 24, 97])
def test_where_an_index_lands_is_uniform_over_keys(count: int) -> None:
    landed = Counter(Shuffled(count, f"uniform {i}")(count // 3) for i in range(200 * count))
    assert chisquare([landed[i] for i in range(count)]).pvalue > 1e-4


def test_neighbours_land_independently_of_each_other() -> None:
    count = 12
    steps: Counter[int] = Counter()
    for i in range(6000):
        order = Shuffled(count, f"pairs {i}")
        steps[(order(4) - order(3)) % count] += 1
    assert chisquare([steps[d] for d in range(1, count)]).pvalue > 1e-4


def test_huge_ranges_work_and_stay_inside() -> None:
    count = 7**900
    order = Shuffled(count, "huge")
    drawn = {order(i) for i in range(200)}
    assert len(drawn) == 200
    assert all(0 <= value < count for value in drawn)


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_outside_is_an_error(index: int) -> None:
    with pytest.raises(IndexError):
        Shuffled(10, "key")(index)


def test_nothing_can_be_chosen_of_nothing() -> None:
    assert 0 not in chosen(0, 1.0, "key")


@given(st.integers(1, 700))
def test_a_spread_is_the_order_of_the_digits_read_backwards(count: int) -> None:
    bits = count.bit_length()
    backwards = sorted(range(count), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    assert [spread(rank, count) for rank in backwards] == list(range(count))


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1))
def test_two_shares_by_rank_and_by_spread_meet_in_their_product(
    count: int, first: float, second: float
) -> None:
    wide, long = round(first * count), round(second * count)
    both = sum(spread(rank, count) < long for rank in range(wide))
    assert abs(both - wide * long / count) <= count.bit_length() / 2 + 1
