"""pass@k over fixed strata and over whole trees, and errors that name their rows."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.coverage.stats import (
    Design,
    agreement,
    deal,
    exact_pass_at_k,
    exact_pass_at_k_stratified,
    pass_at_k,
    pass_at_k_stratified,
    pass_at_k_trees,
)

Stratum = st.lists(st.booleans(), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(Stratum, min_size=1, max_size=3), st.data())
def test_the_stratified_estimate_is_the_mean_over_every_choice_in_each_stratum(
    strata: list[list[bool]], data: st.DataObject
) -> None:
    ks = [data.draw(st.integers(0, len(one))) for one in strata]
    n, c = [len(one) for one in strata], [sum(one) for one in strata]
    choices = [list(combinations(one, k)) for one, k in zip(strata, ks, strict=True)]
    hits = [any(any(some) for some in chosen) for chosen in product(*choices)]
    assert pass_at_k_stratified(n, c, ks) == pytest.approx(np.mean(hits), abs=1e-9)


def test_one_stratum_is_the_usual_estimate_and_rows_broadcast() -> None:
    n, c = np.full((3, 1), 16), np.array([[0], [5], [16]])
    assert pass_at_k_stratified(n, c, 4).tolist() == pass_at_k(n[:, 0], c[:, 0], 4).tolist()


def test_strata_are_estimated_without_bias() -> None:
    random = np.random.default_rng(0)
    p, n, k = np.array([0.02, 0.3, 0.6]), np.array([8, 8, 8]), deal(4, 3)
    found = pass_at_k_stratified(n, random.binomial(n, p, (20_000, 3)), k)
    error = found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(1 - np.prod((1 - p) ** k), abs=5 * error)


def test_a_stratum_with_fewer_samples_than_draws_is_unknown() -> None:
    with pytest.warns(RuntimeWarning, match="1 of 2 values are NaN"):
        found = pass_at_k_stratified([[4, 1], [4, 4]], [[1, 1], [1, 1]], [2, 2])
    assert np.isnan(found).tolist() == [True, False]


Trees = st.integers(1, 4).flatmap(
    lambda size: st.tuples(st.just(size), st.lists(st.integers(0, size), min_size=1, max_size=5))
)


@settings(deadline=None)
@given(Trees, st.data())
def test_the_estimate_over_trees_is_the_mean_over_every_choice_of_trees(
    trees: tuple[int, list[int]], data: st.DataObject
) -> None:
    size, first = trees
    k = data.draw(st.integers(1, size * len(first)))
    j, r = divmod(k, size)
    hits = []
    for begun in range(len(first)) if r else [None]:
        others = [place for i, place in enumerate(first) if i != begun]
        early = begun is not None and first[begun] < r
        hits += [early or any(p < size for p in some) for some in combinations(others, j)]
    assert pass_at_k_trees(first, size, k) == pytest.approx(np.mean(hits), abs=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_trees_of_one_sample_are_the_usual_estimate(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    first = [0 if one else 1 for one in right]
    usual = pass_at_k(len(right), sum(right), k)
    assert pass_at_k_trees(first, 1, k) == pytest.approx(usual, abs=1e-9)


def test_trees_have_a_row_per_problem_and_a_column_per_k() -> None:
    with pytest.warns(RuntimeWarning, match="2 of 6 values are NaN"):
        found = pass_at_k_trees([[0, 3], [3, 3]], 3, [1, 6, 7])
    np.testing.assert_allclose(found, [[0.5, 1, np.nan], [0, 0, np.nan]])


def test_an_index_beyond_its_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="c=4 n=3"):
        pass_at_k_trees([4, 1], 3, 1)


@given(st.floats(0, 1), st.integers(1, 9))
def test_one_stratum_has_the_usual_exact_value(p: float, k: int) -> None:
    found = exact_pass_at_k_stratified([p], [k])
    assert found == pytest.approx(exact_pass_at_k(p, k))


def test_exact_values_of_strata_leave_out_those_without_draws() -> None:
    assert exact_pass_at_k_stratified([0.5, 1.0], [1, 0]) == pytest.approx(0.5)
    assert exact_pass_at_k_stratified([0.5, 0.2], [2, 1]) == pytest.approx(1 - 0.25 * 0.8)


def test_counts_of_strata_agree_with_their_probabilities_and_with_no_others() -> None:
    random = np.random.default_rng(3)
    p = random.uniform(0, 1, (200, 3)) * [0.05, 0.3, 1.0]
    n, ks = 16, [1, 2, 4, 8, 16]
    counts = random.binomial(deal(n, 3), p)
    assert agreement(counts, n, p, ks).agrees
    assert not agreement(counts, n, p[:, ::-1], ks).agrees
    one = agreement(counts[:, :1], 6, p[:, :1], [1, 2, 4])
    assert one == agreement(counts[:, 0], 6, p[:, 0], [1, 2, 4])


@given(st.integers(1, 200), st.integers(1, 20))
def test_draws_are_dealt_round_robin(k: int, strata: int) -> None:
    dealt = deal(k, strata)
    assert dealt.sum() == k and len(dealt) == strata
    assert np.all(np.diff(dealt) <= 0) and np.ptp(dealt) <= 1


@pytest.mark.parametrize(
    ("n", "c", "k", "said"),
    [
        ([4, 4, 4], [1, 5, 7], 1, "c=5 n=4 in row 1, c=7 n=4 in row 2"),
        ([4, 4], [1, -2], 1, "c=-2 in row 1"),
        ([4, 4], [1.5, 2], 1, "c=1.5 in row 0"),
        ([[4], [4]], [[1], [5]], [1, 2], "c=5 n=4 in row 1, 0, c=5 n=4 in row 1, 1"),
        (4, 2, [1, 0], "k=0 in row 1"),
        (9, [10] * 5, 1, "and in 2 more"),
    ],
)
def test_a_refusal_names_the_rows(n: object, c: object, k: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pass_at_k(n, c, k)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 7, 64, 1000])
def test_no_correct_sample_is_exactly_zero_at_every_k(n: int) -> None:
    ks = np.arange(1, n + 1)
    values = [
        pass_at_k(n, 0, ks),
        pass_at_k_stratified([n, n], [0, 0], np.stack([ks, ks], axis=-1)),
        pass_at_k_trees(np.full(n, 2), 2, ks),
        exact_pass_at_k(0.0, ks),
        Design((n,), 1).pass_at_k(n, 0, ks),
    ]
    for value in values:
        assert not value.any() and not np.signbit(value).any()
