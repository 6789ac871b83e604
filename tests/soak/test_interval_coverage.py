"""How often nominal 95 % limits hold: 2,000 studies for each population and number of problems.

Prints the table (`-s` or `-rP`). A row has, for k = 1, 4, 16, 64, the per cent of studies whose
limits held the truth, with the per cent of studies that trusted theirs in brackets.
"""

from __future__ import annotations

import pytest

from tests.studies import KS, PAIRED, SINGLE, UNSEEN, Population, simulate

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

STUDIES = 2_000
SIZES = (50, 100, 200, 1000)
# two standard errors of 2,000 studies at 95 %
NOISE = 0.01
ROWS = [*SINGLE, *PAIRED]


@pytest.mark.parametrize("population", ROWS, ids=[one.name for one in ROWS])
def test_trusted_limits_hold_in_93_to_97_percent_and_cautious_ones_more(
    population: Population,
) -> None:
    for at, problems in enumerate(SIZES):
        held = simulate(population, problems, STUDIES, seed=1_000 * at + problems)
        cells = [
            f"{100 * alone:5.1f} ({100 * trusted:3.0f})"
            for alone, trusted in zip(held.alone, held.trusted, strict=True)
        ]
        print(f"{population.name:42} {problems:5}", *cells, f"  all k {100 * held.at_once:5.1f}")
        for k, alone, trusted in zip(KS, held.alone, held.trusted, strict=True):
            assert alone >= 0.93 - NOISE, (problems, k)
            if trusted >= 0.9:
                assert alone <= 0.97 + NOISE, (problems, k)
        assert held.at_once >= 0.93 - NOISE, problems


def test_a_rare_kind_of_problem_that_was_not_drawn_is_not_known() -> None:
    # what the docstring of Interval says: limits that miss it are called trusted
    held = simulate(UNSEEN, 50, STUDIES, seed=0)
    print(f"{UNSEEN.name:42}    50", (100 * held.alone).round(1), (100 * held.trusted).round(0))
    assert held.alone[0] < 0.93 and held.trusted[0] < 0.3
