"""Distinct solutions among k samples, and entropy of shares."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.coverage.stats import distinct_at_k, entropy

Solutions = st.lists(st.sampled_from("abc-"), min_size=1, max_size=8)  # - is no solution


@settings(deadline=None)
@given(Solutions, st.data())
def test_distinct_at_k_is_the_mean_over_every_choice_of_k(
    samples: list[str], data: st.DataObject
) -> None:
    n = len(samples)
    k = data.draw(st.integers(1, n))
    seen = Counter(Counter(one for one in samples if one != "-").values())
    (found,) = distinct_at_k(n, [seen], [k])[0]
    drawn = [len({samples[i] for i in some} - {"-"}) for some in combinations(range(n), k)]
    assert found == pytest.approx(np.mean(drawn), abs=1e-9)


def test_problems_without_a_solution_have_none_at_any_k() -> None:
    assert distinct_at_k(4, [{}, {}], [1, 4]).tolist() == [[0, 0], [0, 0]]
    assert distinct_at_k(4, [{}, {4: 1}], [1, 4]).tolist() == [[0, 0], [1, 1]]


def test_fewer_samples_than_k_are_unknown() -> None:
    with pytest.warns(RuntimeWarning, match="undefined"):
        assert np.isnan(distinct_at_k(4, [{2: 1}], [5])).all()


def test_a_solution_that_was_seen_more_often_than_there_are_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="c must not exceed n, got c=5 n=4"):
        distinct_at_k(4, [{5: 1}], [1])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda p: sum(p) > 1e-6))
def test_entropy_lies_between_certainty_and_the_uniform(shares: list[float]) -> None:
    assert -1e-12 <= entropy(shares) <= np.log(len(shares)) + 1e-12


def test_entropy_of_the_uniform_and_of_certainty() -> None:
    assert entropy([2, 2, 2]) == pytest.approx(np.log(3))
    assert entropy([[0, 1], [1, 1]]).tolist() == pytest.approx([0, np.log(2)])
    assert np.isnan(entropy([0.0, 0.0]))
    with pytest.raises(ValueError, match="negative"):
        entropy([-0.1, 1])
