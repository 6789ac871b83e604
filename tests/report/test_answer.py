"""The answer in plain words says no more than the limits of the changes allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.report.answer import answer
from forkdiv.report.grid import Grid
from forkdiv.report.headline import headline
from tests.report.test_grid import changes as any_change
from tests.summaries import DOWN, FLAT, UP, Change, a_cell, a_summary, made_invalid


def said_of(*cells: dict[str, Any]) -> str:
    return answer(Grid.of(a_summary(list(cells))))


def densities(changes: Mapping[float, Change]) -> str:
    """The answer where pass@1 rose and pass@16 changed so at each fork density."""
    return said_of(*(a_cell(d, changes={1: UP, 16: one}) for d, one in changes.items()))


def test_a_loss_at_the_largest_k_is_a_yes_with_its_limits_and_what_one_try_gives() -> None:
    assert said_of(a_cell({}, changes={1: UP, 16: DOWN})) == (
        "Yes: with 16 tries per problem, the fine-tuned model solves 20 fewer of every 100 "
        "problems than the base (95% interval 15 to 25), although it solves 30 more in one try."
    )


@pytest.mark.parametrize(
    ("at_1", "ending"),
    [
        (UP, ", although it solves 30 more in one try."),
        (DOWN, ", and 20 fewer in one try as well."),
        (FLAT, "15 to 25)."),
    ],
)
def test_one_try_is_spoken_of_only_where_its_change_is_clear(at_1: Change, ending: str) -> None:
    assert said_of(a_cell(0.5, changes={1: at_1, 16: DOWN})).endswith(ending)


def test_the_answer_gives_both_sides_and_the_best_trade_off() -> None:
    gains, middle = (0.4, 0.35, 0.45), (0.35, 0.3, 0.4)
    found = said_of(
        a_cell(0.0, changes={1: gains, 16: DOWN}), a_cell(0.5, changes={1: middle, 16: FLAT})
    )
    assert found.endswith(
        "than the base (95% interval 15 to 25); in one try, the one at fork density 0 gains most "
        "(+40 of every 100); the best trade-off is the one at fork density 0.5 (+35 in one try, "
        "+1 with 16 of every 100)."
    )
    one = said_of(
        a_cell(0.0, changes={1: gains, 16: DOWN}), a_cell(0.5, changes={1: FLAT, 16: DOWN})
    )
    assert one.endswith("and is the best trade-off (+40 in one try, −20 with 16).")


def test_a_gain_that_is_not_clear_among_all_models_is_not_claimed() -> None:
    barely = (0.05, 0.002, 0.098)
    cells = [a_cell(d, changes={1: barely, 16: DOWN}) for d in (0.0, 0.5, 1.0)]
    assert "in one try, none of them clearly solves more than the base" in said_of(*cells)


def test_a_gain_everywhere_is_a_no() -> None:
    assert densities({0.5: UP}) == (
        "No: with 16 tries per problem, the fine-tuned model solves more problems than the base; "
        "in one try it solves 30 more of every 100."
    )
    assert densities({0.0: UP, 1.0: UP}).endswith(
        "every fine-tuned model solves more problems than the base; in one try, the one at fork "
        "density 0 gains most (+30 of every 100)."
    )


def test_no_clear_change_is_not_called_a_no_and_says_which_loss_is_excluded() -> None:
    assert densities({0.5: (0.01, -0.023, 0.04)}) == (
        "No loss can be shown: with 16 tries per problem, the fine-tuned model does not clearly "
        "solve fewer problems than the base, and a loss of more than 3 of every 100 problems can "
        "be excluded; in one try it solves 30 more of every 100."
    )


def test_the_loss_that_is_excluded_holds_for_all_settings_at_once() -> None:
    alone, among = densities({0.5: FLAT}), densities({0.0: FLAT, 0.5: FLAT, 1.0: FLAT})
    assert "more than 2 of every 100" in alone
    # the lower limit of FLAT, 0.03 below its value, widens by 2.394 / 1.960
    assert "more than 3 of every 100" in among


def test_only_the_settings_that_lost_are_named() -> None:
    found = densities({0.0: DOWN, 0.5: FLAT, 1.0: FLAT})
    assert found.startswith("Yes, for 1 of 3 fine-tuned models: with 16 tries per problem, the ")
    assert "model fine-tuned at fork density 0 solves 20 fewer" in found
    lost = found.partition(";")[0]
    assert "0.5" not in lost and "density 1" not in lost
    both = densities({0.0: DOWN, 0.5: FLAT, 1.0: (-0.1, -0.12, -0.08)})
    assert both.startswith("Yes, for 2 of 3 fine-tuned models: ")
    assert "the models fine-tuned at fork density 0 and at fork density 1 solve fewer" in both
    assert "(20 and 10 fewer of every 100); in one try, the one at" in both


def test_a_setting_between_the_ends_must_be_clear_among_all_of_them() -> None:
    barely = (-0.05, -0.098, -0.002)
    assert densities({0.0: barely, 0.5: FLAT, 1.0: FLAT}).startswith("Yes")
    assert densities({0.0: FLAT, 0.5: barely, 1.0: FLAT}).startswith("No loss can be shown")
    assert densities({0.0: FLAT, 0.5: DOWN, 1.0: FLAT}).startswith("Yes, for 1 of 3")


def test_unsigned_forks_are_spoken_of_where_all_problems_show_no_loss() -> None:
    cells = [
        a_cell(0.0, subset=subset, changes={1: UP, 16: one})
        for subset, one in (("all", DOWN), ("signed", UP), ("unsigned", (-0.4, -0.45, -0.35)))
    ]
    assert "unsigned" not in said_of(*cells)
    cells[0]["delta_to_base"]["16"] = dict(zip(("value", "low", "high"), FLAT, strict=True))
    only = said_of(*cells)
    assert "solves 40 fewer of every 100 problems than the base where forks are unsigned" in only


def test_a_small_loss_that_is_clear_is_not_rounded_to_none() -> None:
    found = densities({0.5: (-0.004, -0.0075, -0.0004)})
    assert "solves 0.40 fewer of every 100 problems than the base (95% interval 0.04 to 0.75)" in (
        found
    )


def test_the_temperature_is_named_where_there_are_several() -> None:
    cells = [a_cell(0.5, t, changes={1: UP, 16: DOWN}) for t in (0.5, 1.25)]
    assert "with 16 tries per problem at temperature 1.25, the" in said_of(*cells)
    assert "temperature" not in said_of(cells[1])


def test_of_several_seeds_a_model_is_spoken_of_not_the_model() -> None:
    cells = [a_cell(0.5, seed=seed, changes={1: UP, 16: DOWN}) for seed in (0, 1, 2)]
    assert "a fine-tuned model solves 20 fewer" in said_of(*cells)


@pytest.mark.parametrize(
    "cells",
    [
        [made_invalid(a_cell(0.5))],
        [a_cell(0.5, changes={1: UP})],
        [],
    ],
    ids=["invalid", "pass@1 only", "no cell"],
)
def test_nothing_is_answered_where_coverage_was_not_measured(cells: list[dict[str, Any]]) -> None:
    assert said_of(*cells).startswith("Not answered: ")


def test_an_invalid_cell_takes_no_part() -> None:
    cells = [a_cell(0.0), made_invalid(a_cell(0.5)), a_cell(1.0, changes={1: UP, 16: FLAT})]
    assert "for 1 of 2 fine-tuned models" in said_of(*cells)


def test_chance_alone_makes_few_yes() -> None:
    random, runs = np.random.default_rng(0), 300
    yes = 0
    for _ in range(runs):
        values = random.normal(0, 0.01, 7)
        found = densities({i / 6: (v, v - 0.0196, v + 0.0196) for i, v in enumerate(values)})
        yes += found.startswith("Yes")
    # two ends at 2.5% each, and the others at 2.5% together
    assert yes <= 0.11 * runs


@settings(deadline=None)
@given(st.lists(any_change, min_size=1, max_size=4))
def test_what_the_headline_calls_lowered_is_never_answered_with_no(found: list[Change]) -> None:
    summary = a_summary([a_cell(i / 4, changes={1: UP, 16: one}) for i, one in enumerate(found)])
    first = headline(summary).splitlines()[0]
    word = answer(Grid.of(summary))
    assert word.endswith(".") and "  " not in word and "nan" not in word
    if "lowered" in first:
        assert word.startswith("Yes")
