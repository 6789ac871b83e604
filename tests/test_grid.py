"""Estimates over seeds claim no more than the seeds and the problems allow.

Also makes the summaries that the tests of headline, figures and report read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from forkdiv.grid import Estimate, Grid, ordered, place, signed

Change = tuple[float, float, float]
UP, DOWN, FLAT = (0.3, 0.25, 0.35), (-0.2, -0.25, -0.15), (0.01, -0.02, 0.04)


def a_cell(
    density: float | None,
    temperature: float = 1.0,
    seed: int = 0,
    subset: str = "all",
    changes: Mapping[int, Change] | None = None,
) -> dict[str, Any]:
    changes = changes or {1: UP, 16: DOWN}
    ends = {1: 0.4, 4: 0.5, 16: 0.6}
    ks = sorted({1, *changes}) if 4 not in changes else sorted(changes)
    moved = {k: ends.get(k, 0.5) + (0.0 if density is None else changes[k][0]) for k in ks}
    deltas = {} if density is None else changes
    return {
        "fork_density": density,
        "temperature": temperature,
        "seed": seed,
        "subset": subset,
        "n_problems": 100,
        "n_samples": 16,
        "truncated": 3,
        "unparsable": 2,
        "errors": 0,
        "valid": True,
        "pass_at": {
            str(k): {"value": value, "low": max(value - 0.05, 0), "high": min(value + 0.05, 1)}
            for k, value in moved.items()
        },
        "delta_to_base": {
            str(k): {"value": value, "low": low, "high": high}
            for k, (value, low, high) in deltas.items()
        },
        "exact_pass_at": {str(k): value for k, value in moved.items()},
        "agreement": {"worst_z": 1.2, "at_k": 1, "agrees": True},
        "best_case_pass_at": {str(k): value + 0.01 for k, value in moved.items()},
        "lost": {"other_ends": 700, "broken_path": 12},
    }


def a_summary(
    cells: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]] | None = None, study: str = "s"
) -> dict[str, Any]:
    if base is None:
        places = sorted({(cell["temperature"], cell["subset"]) for cell in cells})
        ks = {int(k): FLAT for k in cells[0]["pass_at"]} if cells else {1: FLAT}
        base = [a_cell(None, t, subset=subset, changes=ks) for t, subset in places]
    return {
        "study": study,
        "fingerprint": "f" * 64,
        "commit": None,
        "created": "2026-01-01T00:00:00+00:00",
        "settings": {"task": {"kind": "graph_branching"}, "sweep": {"seed": [0]}},
        "seconds": {"train": 12.5},
        "versions": {"numpy": "2.0", "vllm": None},
        "confidence": 0.95,
        "base": list(base),
        "cells": list(cells),
    }


def made_invalid(cell: dict[str, Any]) -> dict[str, Any]:
    cell = copy.deepcopy(cell)
    cell.update(valid=False, errors=4, agreement=None, exact_pass_at={})
    for field in ("pass_at", "delta_to_base"):
        cell[field] = {k: {"value": None, "low": None, "high": None} for k in cell[field]}
    cell["best_case_pass_at"] = dict.fromkeys(cell["best_case_pass_at"])
    return cell


def grid_summary(subsets: Sequence[str] = ("all", "unsigned")) -> dict[str, Any]:
    cells = [
        a_cell(density, temperature, subset=subset, changes={1: UP, 4: FLAT, 16: DOWN})
        for density in (0.0, 0.5)
        for temperature in (0.7, 1.0)
        for subset in subsets
    ]
    return a_summary(cells)


def test_limits_over_seeds_hold_both_their_spread_and_the_problems() -> None:
    changes = [(0.28, 0.23, 0.33), (0.30, 0.25, 0.35), (0.32, 0.27, 0.37)]
    cells = [a_cell(0.0, seed=seed, changes={1: one}) for seed, one in enumerate(changes)]
    found = Grid.of(a_summary(cells)).change(0.0, 1.0, "all", 1)
    assert found is not None
    half = (0.05**2 + (4.302653 * 0.02 / 3**0.5) ** 2) ** 0.5
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


def test_estimates_of_one_seed_are_its_own_and_hold_no_invalid_cell() -> None:
    cells = [a_cell(0.0, changes={1: UP}), made_invalid(a_cell(0.5, changes={1: UP}))]
    grid = Grid.of(a_summary(cells))
    assert grid.change(0.0, 1.0, "all", 1) == Estimate(*UP, directions=(1,))
    assert grid.change(0.5, 1.0, "all", 1) is None
    assert grid.change(0.0, 2.0, "all", 1) is None


def test_pass_at_k_over_seeds_stays_between_0_and_1() -> None:
    cells = [a_cell(0.0, seed=seed, changes={1: (d, d, d)}) for seed, d in enumerate((-0.4, 0.6))]
    found = Grid.of(a_summary(cells)).pass_at(0.0, 1.0, "all", 1)
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_ends_are_the_smallest_and_largest_k_that_every_valid_cell_has() -> None:
    cells = [a_cell(0.0, changes={1: UP, 4: UP, 16: UP}), a_cell(0.5, changes={1: UP, 4: UP})]
    invalid = made_invalid(a_cell(1.0, changes={4: UP}))
    assert Grid.of(a_summary([*cells, invalid])).ends == (1, 4)
    assert Grid.of(a_summary([a_cell(0.5, changes={1: UP})])).ends == (1,)
    assert Grid.of(a_summary([], base=[])).ends == ()


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(0.25, 2, "+0.25"), (-0.25, 1, "−0.2"), (0.0004, 3, "0.000"), (-0.0004, 3, "0.000")],
)
def test_a_change_has_a_sign_unless_it_is_0(value: float, digits: int, said: str) -> None:
    assert signed(value, digits) == said


def test_a_limit_that_excludes_0_is_not_printed_as_0() -> None:
    assert Estimate(0.02, 0.0004, 0.04).parts(2) == ("+0.0200", "+0.0004 to +0.0400")
    assert Estimate(0.02, -0.0004, 0.04).parts(2) == ("+0.02", "0.00 to +0.04")


def test_cells_are_ordered_base_first() -> None:
    cells = [
        a_cell(0.5, seed=1),
        a_cell(0.5, subset="unsigned"),
        a_cell(0.5),
        a_cell(0.25, 2.0),
        a_cell(None, 2.0),
    ]
    assert [place(cell) for cell in ordered(cells)] == [
        ["base", "2", "0", "all"],
        ["0.25", "2", "0", "all"],
        ["0.5", "1", "0", "all"],
        ["0.5", "1", "0", "unsigned"],
        ["0.5", "1", "1", "all"],
    ]
