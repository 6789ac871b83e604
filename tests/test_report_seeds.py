"""Few seeds allow few conclusions, and the page says which."""

from __future__ import annotations

import pytest
from scipy.stats import t

from forkdiv.report import seeds
from forkdiv.report.grid import Grid
from tests.summaries import a_cell, a_summary


def said(count: int) -> str:
    return seeds.about(Grid.of(a_summary([a_cell(0.5, seed=seed) for seed in range(count)])))


def test_one_seed_says_nothing_of_another() -> None:
    assert "Nothing follows for another seed" in said(1)


@pytest.mark.parametrize(("count", "factor"), [(2, "12.7"), (3, "4.3"), (4, "3.2")])
def test_few_seeds_are_told_with_the_factor_of_students_t(count: int, factor: str) -> None:
    assert f"{count} SFT seeds: an interval takes {factor} standard errors" in said(count)
    assert seeds.t_factor(count, 0.95) == pytest.approx(t.ppf(0.975, count - 1))


def test_enough_seeds_need_no_words() -> None:
    assert said(5) == ""
