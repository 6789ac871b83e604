"""Few seeds allow few conclusions, and the page says which."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from forkdiv.report import seeds
from forkdiv.report.grid import Grid
from tests.summaries import a_cell, a_summary


def said(count: int) -> str:
    return seeds.seed_note(Grid.of(a_summary([a_cell(0.5, seed=seed) for seed in range(count)])))


def test_one_seed_says_nothing_of_another() -> None:
    assert "The model of another seed may differ" in said(1)


@pytest.mark.parametrize(("count", "factor"), [(2, "12.7"), (3, "4.3"), (4, "3.2")])
def test_few_seeds_are_told_with_the_factor_of_students_t(count: int, factor: str) -> None:
    assert f"{count} SFT seeds: an interval takes {factor} standard errors" in said(count)
    assert seeds.t_factor(count, 0.95) == pytest.approx(t.ppf(0.975, count - 1))


def test_enough_seeds_need_no_words() -> None:
    assert said(5) == ""


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("parts", [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0.3, 0), (0.5, 0.3, 1)])
def test_limits_over_seeds_hold_the_change_of_the_recipe(
    count: int, parts: tuple[float, float, float]
) -> None:
    """`parts`: what the problems, the seeds, and each seed's own luck with the problems add to
    a change, in standard errors; the problems' part is the same for every seed."""
    problems, seed, both = (0.01 * part for part in parts)
    random = np.random.default_rng(count)
    half = 1.96 * float(np.hypot(problems, both))
    held, studies = 0, 400
    for _ in range(studies):
        values = random.normal(0, problems) + random.normal(0, np.hypot(seed, both), count)
        cells = [
            a_cell(0.5, seed=at, changes={1: (value, value - half, value + half)})
            for at, value in enumerate(values.tolist())
        ]
        grid = Grid.of(a_summary(cells, base=[]))
        found = grid.change(grid.settings[0], 1.0, "all", 1)
        assert found
        held += found.low <= 0 <= found.high
    # 93 % less three standard errors of 400 studies
    assert held / studies >= 0.93 - 0.035
