"""Stopping early is unbiased: over all that can happen, estimates average to the truth."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.coverage.stats import exact_pass_at_k, pass_at_k
from forkdiv.coverage.stats.sequential import Design, doubling


@st.composite
def designs(draw: st.DrawFn) -> Design:
    steps = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    return Design(tuple(int(one) for one in np.cumsum(steps)), draw(st.integers(1, 6)))


@settings(deadline=None)
@given(designs(), st.floats(0, 1))
def test_over_all_ends_the_estimates_average_to_the_exact_value(design: Design, p: float) -> None:
    n, c = design.ends
    chances = design.chances([p])[0]
    assert chances.sum() == pytest.approx(1, abs=1e-9)
    for k in range(1, design.stages[-1] + 1):
        expected = chances @ design.pass_at_k(n, c, k)[:, 0]
        assert expected == pytest.approx(exact_pass_at_k(p, k), abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 60), st.data())
def test_one_stage_is_the_ordinary_estimate(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    found = Design((n,)).pass_at_k([n], [c], [k])
    assert found[0, 0] == pytest.approx(float(pass_at_k(n, c, k)), abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(designs().filter(lambda one: one.stages[-1] <= 12), st.integers(1, 12))
def test_estimates_are_the_share_of_orders_counted_one_by_one(design: Design, k: int) -> None:
    k = min(k, design.stages[-1])
    counted: dict[tuple[int, int], list[int]] = {}
    seen = set()
    for order in product((0, 1), repeat=design.stages[-1]):
        n = next(n for n in design.stages if not design.continues(n, sum(order[:n])))
        if order[:n] in seen:
            continue
        seen.add(order[:n])
        entry = counted.setdefault((n, sum(order[:n])), [0, 0])
        entry[0] += 1
        entry[1] += not any(order[:k]) and n >= min(k, n)
    for (n, c), (ways, silent) in counted.items():
        want = 1 - Fraction(silent if n >= k else 0, ways)
        assert design.pass_at_k([n], [c], [k])[0, 0] == pytest.approx(float(want), abs=1e-9)


def test_the_ordinary_estimate_would_be_biased_here() -> None:
    """What the rule is for: on what was drawn, the estimate for fixed n is off by 0.03."""
    design, p = doubling(64, 8, 1), np.array([0.05])
    n, c = design.ends
    chances = design.chances(p)[0]
    naive = chances @ pass_at_k(n, c, 1)
    assert naive - p[0] > 0.03
    assert chances @ design.pass_at_k(n, c, 1)[:, 0] == pytest.approx(p[0], abs=1e-9)


def test_simulated_studies_agree_with_the_truth_and_cost_less() -> None:
    """2,000 studies of 40 problems: the mean is within 4 standard errors, which are below 0.001;
    a bias of 0.005 would be seen."""
    random = np.random.default_rng(0)
    design, ks = doubling(64, 8, 4), np.array([1, 8, 64])
    p = random.beta(0.5, 1.5, 40)
    draws = random.random((2000, 40, 64)) < p[None, :, None]
    correct = draws.cumsum(axis=2)
    n = np.full((2000, 40), design.stages[-1])
    for stage in reversed(design.stages):
        stops = ~np.vectorize(design.continues)(stage, correct[:, :, stage - 1])
        n = np.where(stops, stage, n)
    c = np.take_along_axis(correct, n[:, :, None] - 1, axis=2)[:, :, 0]
    values = design.pass_at_k(n, c, ks).reshape(2000, 40, 3).mean(axis=1)
    errors = values.std(axis=0, ddof=1) / 2000**0.5
    assert np.all(errors < 0.00125)
    assert np.all(
        np.abs(values.mean(axis=0) - exact_pass_at_k(p[:, None], ks).mean(0)) < 4 * errors
    )
    assert n.mean() < 0.7 * 64


@pytest.mark.parametrize(
    ("n", "c"),
    [(8, 0), (8, 3), (16, 17), (12, 4)],
)
def test_counts_at_which_nothing_stops_are_named(n: int, c: int) -> None:
    with pytest.raises(ValueError, match=f"n={n} c={c} in row 1"):
        doubling(64, 8, 4).pass_at_k([8, n], [5, c], [1])


def test_large_designs_are_stable() -> None:
    design = doubling(4096, 8, 4)
    n, c = design.ends
    found = design.pass_at_k(n, c, [1, 64, 4096])
    assert np.all((found >= 0) & (found <= 1)) and np.all(np.isfinite(found))
    assert design.chances([1e-4, 0.5]).sum(axis=1) == pytest.approx([1, 1], abs=1e-8)


def test_impossible_designs_are_refused() -> None:
    for stages, enough in (((), 1), ((8, 8), 1), ((0, 4), 1), ((4,), 0)):
        with pytest.raises(ValueError, match="ascend"):
            Design(stages, enough)
    with pytest.raises(ValueError, match="the last stage, 64, got 65"):
        doubling(64, 8, 4).pass_at_k([64], [0], [65])
