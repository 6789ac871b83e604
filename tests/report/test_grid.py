"""Estimates over seeds claim no more than the seeds and the problems allow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from forkdiv.core.results import Interval, Summary
from forkdiv.report import decoders, numbers
from forkdiv.report.grid import (
    Estimate,
    Grid,
    as_estimate,
    decoders_of,
    nearest_1,
    signed,
    subset_title,
    under,
)
from forkdiv.report.setting import Setting
from tests.summaries import (
    DOWN,
    FLAT,
    UP,
    Change,
    a_cell,
    a_summary,
    grid_summary,
    made_invalid,
    read,
)


def density(value: float) -> Setting:
    return Setting(("fork_density",), (value,))


def test_limits_over_seeds_hold_both_their_spread_and_the_problems() -> None:
    changes = [(0.28, 0.23, 0.33), (0.30, 0.25, 0.35), (0.32, 0.27, 0.37)]
    cells = [a_cell(0.0, seed=seed, changes={1: one}) for seed, one in enumerate(changes)]
    found = Grid.of(a_summary(cells)).change(density(0.0), 1.0, "all", 1)
    assert found is not None
    half = (0.05**2 + (4.302653 * 0.02 / 3**0.5) ** 2) ** 0.5
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


def test_estimates_of_one_seed_are_its_own_and_hold_no_invalid_cell() -> None:
    cells = [a_cell(0.0, changes={1: UP}), made_invalid(a_cell(0.5, changes={1: UP}))]
    grid = Grid.of(a_summary(cells))
    assert grid.change(density(0.0), 1.0, "all", 1) == Estimate(*UP, directions=(1,))
    assert grid.change(density(0.5), 1.0, "all", 1) is None
    assert grid.change(density(0.0), 2.0, "all", 1) is None


def test_pass_at_k_over_seeds_stays_between_0_and_1() -> None:
    cells = [a_cell(0.0, seed=seed, changes={1: (d, d, d)}) for seed, d in enumerate((-0.4, 0.6))]
    found = Grid.of(a_summary(cells)).pass_at(density(0.0), 1.0, "all", 1)
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
    ]
    grid = Grid.of(a_summary(cells, base=[a_cell(None, 2.0)]))
    assert grid.columns == ["fork density", "temperature", "seed", "subset"]
    assert [grid.row(cell) for cell in grid.cells] == [
        ["base", "2", "0", "all"],
        ["0.25", "2", "0", "all"],
        ["0.5", "1", "0", "all"],
        ["0.5", "1", "0", "unsigned"],
        ["0.5", "1", "1", "all"],
    ]


def test_several_axes_have_a_column_each_and_the_base_is_named_in_the_first() -> None:
    grid = Grid.of(
        grid_summary(("all",), {"direction": (1.0, 0.0), "branch_coverage": (2, 1)}, [1])
    )
    assert grid.columns[:3] == ["direction", "branch coverage", "temperature"]
    assert [grid.row(cell)[:2] for cell in grid.cells] == [
        ["base", ""],
        *(["0", "1"], ["0", "2"], ["1", "1"], ["1", "2"]),
    ]


def test_a_study_without_any_axis_tells_base_and_tuned_apart() -> None:
    grid = Grid.of(a_summary([a_cell({})]))
    assert grid.columns[0] == "model"
    assert [grid.row(cell)[0] for cell in grid.cells] == ["base", "tuned"]
    assert [one.label for one in grid.settings] == ["tuned"]


def test_subsets_stand_in_the_order_of_the_cells_after_all_problems() -> None:
    cells = [a_cell(0.5, subset=subset) for subset in ("zebra", "signed", "all", "apple")]
    grid = Grid.of(a_summary(cells))
    assert grid.subsets == ("all", "zebra", "signed", "apple")
    assert [subset_title(subset) for subset in grid.subsets] == [
        *("all problems", "zebra", "signed forks", "apple")
    ]
    assert [cell.subset for cell in grid.cells[:4]] == list(grid.subsets)


def test_the_temperature_nearest_1_is_the_lower_of_two_as_near() -> None:
    assert nearest_1([0.5, 1.5, 2.0]) == 0.5
    assert nearest_1([0.5, 1.25, 2.0]) == 1.25


def test_only_one_axis_of_numbers_is_a_scale() -> None:
    def is_scale(**axes: Any) -> bool:
        return Grid.of(grid_summary(("all",), axes, [1])).is_scale

    assert is_scale(fork_density=(0.0, 1.0))
    assert is_scale(branch_coverage=(1, 2, 3))
    assert not is_scale(structure=("data-level", "problem-level"))
    assert not is_scale(fork_density=(0.0, 1.0), direction=(0.0, 1.0))
    assert not Grid.of(a_summary([a_cell({})])).is_scale


def grid_of(*seeds: Change) -> Grid:
    """Fork density 0 whose seeds changed pass@1 so."""
    return Grid.of(
        a_summary([a_cell(0.0, seed=i, changes={1: one}) for i, one in enumerate(seeds)])
    )


def change(grid: Grid, among: int = 1) -> Estimate:
    found = grid.change(density(0.0), 1.0, "all", 1, among)
    assert found
    return found


def differ(one: Change, other: Change, among: int = 1) -> bool:
    cells = [a_cell(0.0, changes={1: one}), a_cell(1.0, changes={1: other})]
    places = (density(0.0), 1.0, "all"), (density(1.0), 1.0, "all")
    return Grid.of(a_summary(cells)).differ(*places, 1, among)


def test_a_chosen_change_has_limits_that_hold_for_all_it_was_chosen_among() -> None:
    half = norm.ppf(0.975) * 0.1
    grid = grid_of((0.3, 0.3 - half, 0.3 + half))
    wide = norm.ppf(1 - 0.025 / 9) * 0.1
    found = change(grid, 9)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - wide, 0.3 + wide))
    assert (change(grid).direction, found.direction) == (1, 1)
    assert (change(grid, 40).direction, change(grid, 40).directions) == (0, (0,))


def test_the_spread_of_few_seeds_widens_by_students_t() -> None:
    values = (0.28, 0.3, 0.32)
    found = change(grid_of(*((value, value, value) for value in values)), 9)
    assert found.high - 0.3 == pytest.approx(t.ppf(1 - 0.025 / 9, 2) * 0.02 / 3**0.5)


def test_two_changes_whose_limits_touch_do_not_differ() -> None:
    low = (0.0, -0.1, 0.1)
    assert not differ(low, (0.25, 0.1, 0.4))
    assert differ(low, (0.25, 0.11, 0.4)) and differ((0.25, 0.11, 0.4), low)


def test_extremes_of_many_must_be_further_apart_than_a_pair() -> None:
    low = (0.0, -0.1, 0.1)
    assert differ(low, (0.21, 0.11, 0.31))
    assert not differ(low, (0.21, 0.11, 0.31), among=276)
    assert differ(low, (0.5, 0.4, 0.6), among=276)


def test_a_change_that_is_not_known_differs_from_none() -> None:
    places = (density(0.0), 1.0, "all"), (density(1.0), 1.0, "all")
    cells = [a_cell(0.0), made_invalid(a_cell(1.0))]
    assert not Grid.of(a_summary(cells)).differ(*places, 1)


changes = st.tuples(*[st.floats(-1, 1)] * 3).map(
    lambda three: (sorted(three)[1], min(three), max(three))
)


@given(changes, changes, st.integers(1, 300))
def test_a_choice_among_more_never_makes_a_claim_easier(
    one: Change, other: Change, among: int
) -> None:
    alone, wider = change(grid_of(one, other)), change(grid_of(one, other), among)
    assert wider.low <= alone.low + 1e-9 and wider.high >= alone.high - 1e-9
    assert differ(one, other, among) <= differ(one, other)
    assert differ(one, other, among) == differ(other, one, among)


@given(st.lists(changes, min_size=1, max_size=4))
def test_a_change_lies_between_its_limits_and_within_what_a_change_can_be(
    seeds: list[Change],
) -> None:
    found = change(grid_of(*seeds))
    assert -1 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1
    assert len(found.directions) == len(seeds)


def test_changes_of_every_place_are_those_of_its_cells() -> None:
    summary = grid_summary(("all", "x"), {"direction": (0.0, 1.0), "structure": ("data-level",)})
    plain = summary.as_json()
    for number, cell in enumerate(plain["cells"]):
        cell["delta_to_base"]["4"] = dict(zip(("value", "low", "high"), FLAT, strict=True))
        cell["delta_to_base"]["4"]["value"] = number / 1000
    summary = read(plain)
    grid = Grid.of(summary)
    for number, tuned in enumerate(summary.cells):
        setting = Setting.of(tuned, grid.axes)
        assert setting
        found = grid.change(setting, tuned.temperature, tuned.subset, 4)
        assert found is not None
        assert found.value == number / 1000


def at_once(cell: dict[str, Any], half: float) -> dict[str, Any]:
    """The cell with limits for all k at once, so far from every value."""
    for field in ("pass_at", "delta_to_base"):
        for entry in cell[field].values():
            entry.update(low_all=entry["value"] - half, high_all=entry["value"] + half)
    return cell


def test_limits_for_all_k_at_once_are_those_of_the_one_seed() -> None:
    grid = Grid.of(a_summary([at_once(a_cell(0.0, changes={1: UP, 16: UP}), 0.08)]))
    found = grid.change_at_once(density(0.0), 1.0, "all", 1)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.22, 0.38))
    high = grid.pass_at_once(density(0.0), 1.0, "all", 16)
    assert high is not None and high.high == pytest.approx(0.98)


def test_limits_for_all_k_at_once_of_several_seeds_hold_for_each_k_by_bonferroni() -> None:
    ks = {1: UP, 4: UP, 16: UP}
    cells = [at_once(a_cell(0.0, seed=seed, changes=ks), 0.08) for seed in (0, 1)]
    grid = Grid.of(a_summary(cells))
    found = grid.change_at_once(density(0.0), 1.0, "all", 4)
    assert found == grid.change(density(0.0), 1.0, "all", 4, among=3)


def test_a_summary_of_before_has_no_limits_for_all_k_at_once() -> None:
    for cells in ([a_cell(0.0)], [a_cell(0.0, seed=seed) for seed in (0, 1)]):
        grid = Grid.of(a_summary(cells))
        assert grid.change_at_once(density(0.0), 1.0, "all", 1) is None
        assert grid.pass_at_once(None, 1.0, "all", 1) is None


@pytest.mark.parametrize("missing", [float("nan"), float("inf")])
def test_an_interval_that_lacks_a_number_is_none(missing: float) -> None:
    assert as_estimate(Interval(value=0.5, low=missing, high=0.6)) is None
    assert as_estimate(None) is None
    known = Interval(value=0.5, low=0.4, high=0.6)
    assert as_estimate(known) == Estimate(0.5, 0.4, 0.6)
    assert as_estimate(known, at_once=True) is None


def table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    made = decoders.of_decoders(summary) or numbers.numbers(Grid.of(summary))
    return made.header, made.rows


def of_two_decoders() -> Summary:
    """`plain` gains where `forced` loses."""
    cells = [
        a_cell(0.5, changes={1: UP, 16: DOWN}, decoder="plain"),
        a_cell(0.5, changes={1: DOWN, 16: UP}, decoder="forced"),
    ]
    flat = {1: FLAT, 16: FLAT}
    base = [a_cell(None, changes=flat, decoder=name) for name in ("plain", "forced")]
    return a_summary(cells, base)


def test_a_grid_is_of_one_decoder_and_never_takes_another_for_a_seed() -> None:
    summary = of_two_decoders()
    assert decoders_of(summary) == ("plain", "forced")
    found = Grid.of(summary).change(density(0.5), 1.0, "all", 1)
    assert found == Estimate(*UP, directions=(1,))
    other = Grid.of(under(summary, "forced"))
    assert other.change(density(0.5), 1.0, "all", 1) == Estimate(*DOWN, directions=(-1,))
    assert len(other.cells) == 2


def test_a_table_names_the_decoder_of_each_row() -> None:
    header, rows = table(of_two_decoders())
    assert header[:3] == ["decoder", "fork density", "temperature"]
    assert [row[:2] for row in rows] == [
        ["plain", "base"],
        ["plain", "0.5"],
        ["forced", "base"],
        ["forced", "0.5"],
    ]
    plain = a_summary([a_cell(0.5)])
    assert decoders_of(plain) == (None,)
    assert table(plain)[0][0] == "fork density"


def test_a_decoder_without_a_valid_cell_hides_no_other() -> None:
    plain = of_two_decoders().as_json()
    plain["cells"] = [made_invalid(cell) for cell in plain["cells"] if cell["decoder"] == "forced"]
    plain["base"][1] = made_invalid(plain["base"][1])
    header, rows = table(read(plain))
    assert "pass@16" in header and len(rows) == 3
