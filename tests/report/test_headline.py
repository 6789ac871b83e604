"""The headline says what its numbers say: no more, in any direction."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from forkdiv.core.results import Summary
from forkdiv.report.headline import headline, warning
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


@pytest.mark.parametrize(
    ("change", "said", "unsaid"),
    [
        (UP, "raised pass@1 (+0.30, 95% interval +0.25 to +0.35)", ("lowered", "clearly change")),
        (DOWN, "lowered pass@1 (−0.20, 95% interval −0.25 to −0.15)", ("raised", "clearly change")),
        (FLAT, "did not clearly change pass@1 (+0.01, 95%", ("raised", "lowered")),
        ((0.0, 0.0, 0.0), "did not clearly change pass@1 (0.00,", ("raised", "lowered")),
        ((0.02, 0.0, 0.04), "did not clearly change pass@1", ("raised", "lowered")),
        ((0.02, 0.0004, 0.04), "raised pass@1 (+0.0200, 95% interval +0.0004", ("lowered",)),
    ],
)
def test_headline_says_raised_or_lowered_only_where_the_interval_excludes_0(
    change: Change, said: str, unsaid: tuple[str, ...]
) -> None:
    text = headline(a_summary([a_cell(0.5, changes={1: change})]))
    assert said in text
    assert not [word for word in unsaid if word in text]


def test_headline_compares_the_lowest_and_highest_density_at_both_ends_of_k() -> None:
    cells = [
        a_cell(0.0, changes={1: UP, 16: DOWN}),
        a_cell(0.5, changes={1: (0.9, 0.9, 0.9), 16: (0.9, 0.9, 0.9)}),
        a_cell(1.0, changes={1: UP, 16: (-0.05, -0.1, -0.01)}),
    ]
    text = headline(a_summary(cells))
    assert "density 0 raised pass@1" in text and "and lowered pass@16 (−0.20" in text
    assert "at fork density 1 it raised pass@1" in text and "lowered pass@16 (−0.05" in text
    assert "pass@1 does not clearly differ and pass@16 is higher at fork density 1." in text
    assert "0.90" not in text


def test_headline_names_the_lower_density_where_that_is_the_better_one() -> None:
    text = headline(a_summary([a_cell(0.0, changes={1: UP}), a_cell(1.0, changes={1: DOWN})]))
    assert "pass@1 is higher at fork density 0" in text


def test_headline_speaks_of_the_temperature_nearest_1_and_of_unsigned_forks_apart() -> None:
    cells = [
        a_cell(0.0, t, subset=subset, changes={1: UP if subset == "all" else DOWN})
        for t in (0.5, 0.9, 2.0)
        for subset in ("all", "signed", "unsigned")
    ]
    first, second, _ = headline(a_summary(cells)).splitlines()
    assert first.startswith("At temperature 0.9, on all problems, ") and "raised" in first
    assert second.startswith("At temperature 0.9, on unsigned forks, ") and "lowered" in second


def test_headline_says_that_a_change_varies_with_temperature_only_if_extremes_are_apart() -> None:
    cells = [
        a_cell(0.0, 0.5, changes={1: UP, 16: (-0.4, -0.45, -0.35)}),
        a_cell(0.0, 1.0, changes={1: UP, 16: (0.1, 0.05, 0.15)}),
        a_cell(0.0, 1.5, changes={1: UP, 16: (-0.1, -0.15, -0.05)}),
    ]
    text = headline(a_summary(cells)).splitlines()[-1]
    assert "the change in pass@16 varies clearly at fork density 0 (−0.40 at 0.5, +0.10 at 1)" in (
        text.replace("that in", "the change in")
    )
    assert "the change in pass@1 does not clearly vary at fork density 0" in text


def test_one_temperature_claims_nothing_of_others_and_one_seed_is_named() -> None:
    text = headline(a_summary([a_cell(0.0)]))
    assert "Only temperature 1 was compared" in text
    assert "one SFT seed" in text
    assert len(text.splitlines()) <= 3


def test_seeds_that_disagree_give_no_clear_change() -> None:
    cells = [a_cell(0.0, seed=0, changes={1: UP}), a_cell(0.0, seed=1, changes={1: DOWN})]
    text = headline(a_summary(cells))
    assert "did not clearly change pass@1 (+0.05" in text
    assert "2 SFT seeds" in text and "one SFT seed" not in text


def test_two_agreeing_seeds_are_not_overclaimed_but_their_agreement_is_told() -> None:
    cells = [
        a_cell(0.0, seed=0, changes={1: (0.1, 0.05, 0.15)}),
        a_cell(0.0, seed=1, changes={1: (0.3, 0.25, 0.35)}),
    ]
    text = headline(a_summary(cells))
    assert "did not clearly change" in text and "each seed alone raised it" in text


def test_a_sampler_that_disagrees_with_exact_values_is_told_in_the_first_line() -> None:
    cell = a_cell(0.0)
    cell["agreement"] = {"worst_z": -7.25, "at_k": 16, "agrees": False}
    first = headline(a_summary([cell])).splitlines()[0]
    assert first.startswith("Do not rely on this report: sampled and exact pass@k disagree in 1")
    assert "7.2 standard errors at k=16" in first


def test_an_invalid_density_is_not_compared() -> None:
    cells = [a_cell(0.0), a_cell(0.5), made_invalid(a_cell(1.0))]
    text = headline(a_summary(cells)).splitlines()[1]
    assert "at fork density 0.5 it" in text and "density 1" not in text


def test_nothing_valid_means_nothing_is_claimed() -> None:
    summary = a_summary([made_invalid(a_cell(0.5))])
    assert "The change to the base is unknown" in headline(summary)


def test_the_warning_names_three_trials_at_most_and_is_empty_without_cause() -> None:
    cells = [made_invalid(a_cell(0.5, seed=seed)) for seed in range(5)]
    text = warning(a_summary(cells))
    assert text.startswith("Do not rely on this report: 5 of 6 cells are invalid (")
    assert "seed 2" in text and "seed 3" not in text and text.endswith("and 2 more).")
    assert warning(a_summary([a_cell(0.5)])) == ""


def two_axes(**changes: Change) -> Summary:
    """Fork density × direction; `d1v0` is the change of pass@16 at density 1 and direction 0."""
    return a_summary(
        [
            a_cell(
                {"fork_density": density, "direction": direction},
                changes={1: UP, 16: changes[f"d{density:g}v{direction:g}"]},
            )
            for density, direction in product((0.0, 1.0), (0.0, 1.0))
        ]
    )


def test_of_several_axes_the_settings_of_the_lowest_and_highest_change_are_named() -> None:
    summary = two_axes(
        d0v0=(-0.2, -0.25, -0.15),
        d0v1=(-0.5, -0.55, -0.45),
        d1v0=(0.1, 0.05, 0.15),
        d1v1=(-0.3, -0.35, -0.25),
    )
    # a limit of 0.05 widens by 2.498 / 1.960, the normal quantiles of 4 changes and of one
    assert headline(summary).splitlines()[0] == (
        "At temperature 1, on all problems, of 4 settings the lowest change in pass@16 was "
        "measured at fork density 0 and direction 1: fine-tuning raised pass@1 (+0.30, 95% "
        "interval for all 4 at once +0.24 to +0.36) and lowered pass@16 (−0.50, −0.56 to −0.44) "
        "against the base; the highest at fork density 1 and direction 0: it raised pass@1 (+0.30, "
        "+0.24 to +0.36) and pass@16 (+0.10, +0.04 to +0.16); between the two, pass@1 does not "
        "clearly differ and pass@16 is higher at fork density 1 and direction 0."
    )


def test_a_change_that_is_clear_alone_but_not_among_all_it_was_chosen_from_is_not_claimed() -> None:
    barely = (-0.05, -0.098, -0.002)
    assert "lowered pass@16" in headline(a_summary([a_cell(0.0, changes={1: UP, 16: barely})]))
    found = headline(two_axes(d0v0=FLAT, d0v1=barely, d1v0=FLAT, d1v1=FLAT))
    assert "lowest change in pass@16 was measured at fork density 0 and direction 1" in found
    assert "lowered" not in found


def test_chance_alone_makes_few_claims_however_many_settings_there_are() -> None:
    random, half, runs = np.random.default_rng(0), 0.0196, 150
    settings = [
        {"fork_density": d, "direction": v, "structure": s}
        for d, v, s in product(
            (0.0, 0.3, 0.6, 1.0), (0.0, 0.5, 1.0), ("data-level", "problem-level")
        )
    ]
    told = {"raised": 0, "lowered": 0, "higher": 0}
    for _ in range(runs):
        values = random.normal(0, 0.01, len(settings))
        cells = [
            a_cell(setting, changes={1: (value, value - half, value + half)})
            for setting, value in zip(settings, values, strict=True)
        ]
        text = headline(a_summary(cells))
        told = {word: told[word] + (word in text) for word in told}
    # the intervals hold 95% of the time for all settings at once
    assert told["raised"] + told["lowered"] <= 0.1 * runs
    assert told["higher"] <= 0.1 * runs


def test_two_kinds_of_data_are_compared_by_name() -> None:
    cells = [
        a_cell({"structure": "data-level"}, changes={1: UP, 16: DOWN}),
        a_cell({"structure": "problem-level"}, changes={1: UP, 16: FLAT}),
    ]
    first = headline(a_summary(cells)).splitlines()[0]
    assert first.startswith(
        "At temperature 1, on all problems, fine-tuning with data-level diversity raised pass@1 ("
    )
    assert "; with problem-level diversity it raised pass@1 (" in first
    assert "pass@16 is higher with problem-level diversity." in first
    assert "at once" not in first and "lowest" not in first


def test_without_any_axis_fine_tuning_alone_is_spoken_of() -> None:
    cells = [a_cell({}, t, changes={1: UP, 16: DOWN}) for t in (0.5, 1.0)]
    first, last = headline(a_summary(cells)).splitlines()
    assert first == (
        "At temperature 1, on all problems, fine-tuning raised pass@1 (+0.30, 95% interval +0.25 "
        "to +0.35) and lowered pass@16 (−0.20, −0.25 to −0.15) against the base."
    )
    assert "the change in pass@1 and pass@16 does not clearly vary; all results are from" in last


def test_only_unsigned_forks_are_spoken_of_beside_all_problems() -> None:
    lines = headline(grid_summary(("algebra", "geometry", "all"))).splitlines()
    assert len(lines) == 2
    assert "on all problems," in lines[0]
    assert not [line for line in lines if "algebra" in line or "geometry" in line]


def test_settings_without_a_valid_change_are_not_chosen() -> None:
    summary = two_axes(d0v0=FLAT, d0v1=DOWN, d1v0=FLAT, d1v1=(0.5, 0.45, 0.55))
    plain = summary.as_json()
    plain["cells"][1] = made_invalid(plain["cells"][1])
    line = headline(read(plain)).splitlines()[1]
    assert "of 3 settings the lowest change" in line and "all 3 at once" in line
    assert "direction 1: fine-tuning" not in line


@pytest.mark.parametrize(
    "axes",
    [
        {"fork_density": (0.0, 0.5, 1.0), "direction": (0.0, 1.0)},
        {"synthesis": ("none", "enumerator", "samples")},
        {"branch_coverage": (1, 2), "structure": ("data-level", "problem-level")},
        {"branch_coverage": (3,)},
    ],
)
def test_any_axes_give_up_to_three_sentences_in_good_form(axes: dict[str, Any]) -> None:
    text = headline(grid_summary(("all", "unsigned"), axes))
    assert len(text.splitlines()) == 3
    for line in text.splitlines():
        assert line.endswith(".") and "  " not in line and " ;" not in line and " ." not in line
