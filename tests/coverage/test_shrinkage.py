"""Where a gain turns into a loss, and which problems were lost: numbers, and a cell's view."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import AXES, EvalConfig
from forkdiv.core.results import CellName
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.coverage.lost_problems import MOST_LISTED
from forkdiv.coverage.stats import bootstrap_weights, changed, crossing, exact_pass_at_k
from forkdiv.report.grid import Grid
from forkdiv.report.problems import models
from forkdiv.report.shrinkage import table
from forkdiv.score.counts import ProblemCounts
from tests.summaries import a_summary

KS = [1, 4, 16, 64]


def alike(*curve: float) -> Any:
    """Twenty problems with one and the same change at each k."""
    return np.tile(np.array(curve), (20, 1))


WEIGHTS = bootstrap_weights(["x"] * 20, 100, 0)


def test_k_star_lies_where_the_change_is_0_on_a_scale_of_log_k() -> None:
    found = crossing(KS, alike(0.3, 0.1, -0.1, -0.2), WEIGHTS, 0.95)
    assert found.k == pytest.approx(8) and (found.low, found.high) == pytest.approx((8, 8))
    assert (found.share, found.above_at_1) == (1.0, True)


@pytest.mark.parametrize(
    ("curve", "k"),
    [
        ((0.3, 0.2, 0.1, 0.05), None),
        ((-0.3, -0.2, -0.1, -0.05), None),
        ((-0.1, 0.1, 0.2, 0.3), None),
        ((0.0, 0.0, 0.0, 0.0), None),
        ((-0.1, 0.1, -0.1, -0.2), 8.0),  # from its first fall on
        ((0.1, -0.1, 0.1, -0.1), 2.0),
        ((0.1, 0.0, 0.0, -0.1), 16.0),  # no change is no loss
        ((0.0, -0.1, -0.2, -0.3), None),  # nor a gain
        ((0.1, -0.1, 0.0, 0.0), 2.0),
    ],
)
def test_k_star_is_the_first_fall_from_gain_to_loss(
    curve: tuple[float, ...], k: float | None
) -> None:
    found = crossing(KS, alike(*curve), WEIGHTS, 0.95)
    assert found.k == (k if k is None else pytest.approx(k))
    assert found.above_at_1 is (curve[0] > 0)
    assert (k is None) == (found.low is None) == (found.high is None)


def test_limits_beyond_the_measured_k_are_none() -> None:
    gains, loses = [0.1, 0.1, 0.1, 0.05], [-0.1, -0.1, -0.1, -0.2]
    values = np.array([gains, gains, loses])
    drawn = [[1, 0, 0]] * 10 + [[0, 0, 1]] * 10 + [[1 / 3] * 3] * 80
    found = crossing(KS, values, np.array(drawn), 0.95)
    assert found.k == pytest.approx(32)
    assert (found.low, found.high, found.share) == (None, None, 0.8)


def test_the_interval_of_k_star_holds_the_true_one() -> None:
    # a base that always has one chance in ten against a model that is sure of half the problems
    def drawn(random: np.random.Generator, count: int) -> Any:
        p = np.where(random.random(count) < 0.5, 0.6, 0.001)
        return exact_pass_at_k(p[:, None], ks) - exact_pass_at_k(0.1, ks)

    ks = np.arange(1, 65)
    whole = drawn(np.random.default_rng(0), 400_000)
    true = crossing(list(ks), whole, np.full((1, len(whole)), 1 / len(whole)), 0.95).k
    assert true and 5 < true < 9
    held = 0
    for study in range(200):
        random = np.random.default_rng(study + 1)
        found = crossing(
            list(ks), drawn(random, 200), bootstrap_weights(["x"] * 200, 200, study), 0.95
        )
        assert found.k and found.low and found.high
        held += found.low <= true <= found.high
    assert 0.89 <= held / 200 <= 0.99


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 64)), min_size=1, max_size=40))
def test_lost_and_gained_are_each_others_mirror_image(pairs: list[tuple[int, int]]) -> None:
    tuned, base = np.array(pairs).T
    n, own, other = np.full(len(pairs), 64), tuned / 64, base / 64
    found = changed(n, tuned, base, own, other, 0.05)
    back = changed(n, base, tuned, other, own, 0.05)
    assert found.lost.tolist() == back.gained.tolist()
    assert found.gained.tolist() == back.lost.tolist()
    assert (found.clear == back.clear).all()
    assert not set(found.lost) & set(found.gained)
    assert all(other[i] > 0.5 >= own[i] for i in found.lost)
    gaps = (base - tuned)[found.lost]
    assert (np.diff(gaps) <= 0).all(), "the worst first"


def test_two_samples_of_one_model_are_seldom_clearly_apart() -> None:
    random = np.random.default_rng(0)
    p = random.beta(0.5, 0.5, (200, 100))
    tuned, base = random.binomial(64, p), random.binomial(64, p)
    n = np.full(100, 64)
    any_clear = [
        changed(n, ours, theirs, ours / 64, theirs / 64, 0.05).clear.any()
        for ours, theirs in zip(tuned, base, strict=True)
    ]
    assert np.mean(any_clear) < 0.05 + 0.05


def test_a_clear_change_is_distinguished_from_chance() -> None:
    n, base, tuned = np.full(3, 64), np.array([60, 1, 0]), np.array([0, 0, 1])
    found = changed(n, tuned, base, tuned / 64, base / 64, 0.05)
    assert found.clear.tolist() == [True, False, False]


# --- of a cell ----------------------------------------------------------------------------------

NAME = CellName(axes={"fork_density": 0.5}, tuned=True, temperature=1.0, seed=0)
CONFIG = EvalConfig(problems=40, samples=64, k=(1, 8, 64), bootstrap=200)


def counted(correct: list[int]) -> list[ProblemCounts]:
    return [
        ProblemCounts(
            f"p{i}",
            ("signed", "unsigned")[i % 2],
            n=64,
            correct=c,
            wrong=64 - c,
            right_text=f"right {i}" if c else None,
            wrong_text=f"wrong {i}" if c < 64 else None,
        )
        for i, c in enumerate(correct)
    ]


def found(prompts: bool = True) -> dict[str, dict[str, Any]]:
    """Half of the problems become sure, the others are lost but for two."""
    tuned = counted([64 if i % 2 == 0 else 0 for i in range(40)])
    base = counted([20 + i % 3 if i not in (1, 2) else 0 for i in range(40)])
    told = [f"prompt {i}" for i in range(40)] if prompts else []
    made = cells(NAME, CellInputs(tuned, base, None, told), CONFIG)
    return {one.subset: one.as_json() for one in made}


def test_a_cell_lists_lost_and_gained_problems() -> None:
    made = found()["all"]["shrinkage"]
    assert (made["at_k"], made["lost_count"], made["gained_count"]) == (64, 19, 1)
    assert len(made["lost"]) == MOST_LISTED
    (gained,) = made["gained"]
    assert (gained["id"], gained["prompt"], gained["clear"]) == ("p2", "prompt 2", True)
    assert gained["tuned"] == {
        "n": 64,
        "correct": 64,
        "pass_at": 1.0,
        "right": "right 2",
        "wrong": None,
    }
    worst = made["lost"][0]
    assert worst["base"]["correct"] == 22 and worst["tuned"]["right"] is None
    assert 1 < made["crossing"]["k"] < 64 and made["crossing"]["above_at_1"]
    largest, change = made["largest_loss"], found()["all"]["delta_to_base"]["64"]
    assert largest == {
        "k": 64,
        "value": pytest.approx(-18 / 40),
        "low": change["low_all"],
        "high": change["high_all"],
    }


def test_the_counts_hold_for_each_subset_and_problems_are_named_once() -> None:
    made = found()
    for subset, lost in (("signed", 0), ("unsigned", 19)):
        told = made[subset]["shrinkage"]
        assert (told["lost_count"], told["lost"], told["gained"]) == (lost, [], [])
    assert made["signed"]["shrinkage"]["largest_loss"] is None


def test_without_prompts_problems_are_counted_only() -> None:
    told = found(prompts=False)["all"]["shrinkage"]
    assert (told["lost_count"], told["lost"]) == (19, [])


def test_the_base_and_an_invalid_cell_have_none() -> None:
    one = counted([3] * 4)
    assert all(cell.shrinkage is None for cell in cells(NAME, CellInputs(one), CONFIG))
    hurt = [replace(one[0], wrong=60, error=1), *one[1:]]
    assert cells(NAME, CellInputs(hurt, one), CONFIG)[-1].shrinkage is None


def test_the_report_reads_it() -> None:
    made = list(found().values())
    full = [{**dict.fromkeys(AXES), **cell} for cell in made]
    grid = Grid.of(a_summary(full, base=[]))
    told = table(grid)
    assert told and told.rows[0][-2:] == ["19", "1"]
    (model,) = models(grid)
    assert [(one.count, one.more) for one in model.groups] == [(19, 19 - MOST_LISTED), (1, 0)]
    assert math.isfinite(made[-1]["shrinkage"]["crossing"]["share"])
