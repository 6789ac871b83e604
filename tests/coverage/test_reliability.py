"""Cover@tau, G-Pass@k and mG-Pass@k against enumeration, exact fractions and their definitions."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import ceil, comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from forkdiv.coverage.stats import cover_at, g_pass_at_k, mg_pass_at_k, pass_at_k
from forkdiv.coverage.stats.reliability import required

TAUS = st.integers(1, 100).map(lambda percent: percent / 100)


@st.composite
def counts(draw: st.DrawFn, most: int) -> tuple[int, int, int]:
    n = draw(st.integers(1, most))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


def exact_g_pass(n: int, c: int, k: int, least: int) -> Fraction:
    ways = sum(comb(c, j) * comb(n - c, k - j) for j in range(least, k + 1))
    return Fraction(ways, comb(n, k))


def share(percent: int, k: int) -> int:
    """ceil(percent k / 100), in whole numbers."""
    return max(-(-percent * k // 100), 1)


def test_a_share_is_the_decimal_number_that_is_written() -> None:
    assert [required(tau, 100) for tau in (0.07, 0.55, 0.56)] == [7, 55, 56]
    assert ceil(0.07 * 100) == 8, "in floating point"


@settings(deadline=None, max_examples=80)
@given(counts(9), st.integers(1, 100))
def test_g_pass_is_the_share_of_all_choices_of_k_that_hold_enough_right_samples(
    drawn: tuple[int, int, int], percent: int
) -> None:
    n, c, k = drawn
    choices = [sum(i < c for i in some) for some in combinations(range(n), k)]
    reached = sum(right >= share(percent, k) for right in choices) / len(choices)
    assert g_pass_at_k(n, c, k, percent / 100) == pytest.approx(reached, abs=1e-12)


@settings(deadline=None, max_examples=120)
@given(counts(400), st.integers(1, 100))
def test_g_pass_equals_its_exact_fraction(drawn: tuple[int, int, int], percent: int) -> None:
    n, c, k = drawn
    expected = float(exact_g_pass(n, c, k, share(percent, k)))
    assert g_pass_at_k(n, c, k, percent / 100) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@settings(deadline=None, max_examples=80)
@given(counts(200))
def test_mg_pass_equals_the_sum_of_the_paper_in_fractions(drawn: tuple[int, int, int]) -> None:
    n, c, k = drawn
    above_half = range(ceil(Fraction(k, 2)) + 1, k + 1)
    expected = Fraction(2, k) * sum(exact_g_pass(n, c, k, i) for i in above_half)
    assert mg_pass_at_k(n, c, k) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(counts(4096))
def test_g_pass_with_one_right_sample_is_pass_at_k_for_thousands_of_samples(
    drawn: tuple[int, int, int],
) -> None:
    n, c, k = drawn
    assert g_pass_at_k(n, c, k, 1e-6) == pytest.approx(float(pass_at_k(n, c, k)), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(counts(64), TAUS)
def test_cover_is_g_pass_of_all_samples(drawn: tuple[int, int, int], tau: float) -> None:
    n, c, _ = drawn
    assert cover_at(n, c, tau) == pytest.approx(g_pass_at_k(n, c, n, tau))


@settings(deadline=None, max_examples=60)
@given(counts(64), TAUS, TAUS)
def test_a_higher_share_is_never_reached_more_often(
    drawn: tuple[int, int, int], one: float, other: float
) -> None:
    n, c, k = drawn
    low, high = sorted((one, other))
    assert g_pass_at_k(n, c, k, low) >= g_pass_at_k(n, c, k, high) - 1e-12
    assert cover_at(n, c, low) >= cover_at(n, c, high)


@pytest.mark.parametrize("p", [0.03, 0.4, 0.5, 0.9])
def test_g_pass_and_mg_pass_are_unbiased(p: float) -> None:
    n, k, c = 20, 8, np.arange(21)
    chances = binom.pmf(c, n, p)
    for tau in (0.5, 0.75, 1.0):
        truth = binom.sf(ceil(tau * k) - 1, k, p)
        assert chances @ g_pass_at_k(n, c, k, tau) == pytest.approx(truth, abs=1e-12)
    truth = 2 / k * sum(binom.sf(i - 1, k, p) for i in range(k // 2 + 1, k + 1))
    assert chances @ mg_pass_at_k(n, c, k) == pytest.approx(truth, abs=1e-12)


def test_pass_at_k_is_the_beta_weighted_mean_of_cover() -> None:
    # the identity of arXiv 2510.08325: pass@k = integral of k (1 - tau)^(k-1) Cover@tau
    p = np.array([0.0, 0.1, 0.35, 0.8, 1.0])
    taus = (np.arange(200_000) + 0.5) / 200_000
    cover = (p[:, None] >= taus).mean(axis=0)
    for k in (1, 4, 32):
        weighted = np.mean(k * (1 - taus) ** (k - 1) * cover)
        assert weighted == pytest.approx(np.mean(1 - (1 - p) ** k), abs=1e-4)


@pytest.mark.parametrize(
    ("tau", "k", "least"),
    [(0.7, 10, 7), (0.1, 30, 3), (0.29, 100, 29), (1.0, 64, 64), (0.5, 5, 3), (0.01, 4, 1)],
)
def test_a_share_is_the_decimal_number_it_is_written_as(tau: float, k: int, least: int) -> None:
    assert required(tau, k) == least


def test_certain_problems_are_exact() -> None:
    assert g_pass_at_k(64, [0, 64], 16, 0.5).tolist() == [0.0, 1.0]
    assert cover_at(64, [0, 32, 31, 64], 0.5).tolist() == [0.0, 1.0, 0.0, 1.0]
    assert mg_pass_at_k(64, [0, 64], 16).tolist() == [0.0, 1.0]
    assert mg_pass_at_k(64, 64, 1) == 0.0


def test_too_few_samples_are_unknown_and_impossible_values_are_refused() -> None:
    assert np.isnan(g_pass_at_k(4, [0, 4], 8, 0.5)).all()
    for tau in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="tau must be above 0 and at most 1"):
            g_pass_at_k(4, 2, 2, tau)
    with pytest.raises(ValueError, match="c=5 n=4"):
        g_pass_at_k(4, 5, 2, 0.5)
    with pytest.raises(ValueError, match="c=5 n=4"):
        cover_at(4, 5, 0.5)
