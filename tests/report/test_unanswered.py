"""Where the results say nothing about coverage, the report says so, why, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from forkdiv.core.results import Summary
from forkdiv.report.answer import answer
from forkdiv.report.glance import terminal_table
from forkdiv.report.grid import Grid
from forkdiv.report.headline import headline
from tests.summaries import DOWN, FLAT, UP, a_cell, a_summary

WIDE = (0.0, -0.17, 0.17)


def study(base: dict[str, Any], *tuned: dict[str, Any]) -> Summary:
    return a_summary(list(tuned), base=[base])


def base_cell(**fields: Any) -> dict[str, Any]:
    return a_cell(None, changes={1: FLAT, 16: FLAT}, **fields)


def solving(cell: dict[str, Any], value: float) -> dict[str, Any]:
    cell["pass_at"] = {k: {"value": value, "low": 0.0, "high": 0.2} for k in cell["pass_at"]}
    return cell


def answers(summary: Summary) -> list[str]:
    """The answer, and the headline that `forkdiv coverage` prints: both must not claim."""
    return [answer(Grid.of(summary)), headline(summary)]


def test_a_base_that_solves_nothing_has_no_coverage_to_lose() -> None:
    tuned = solving(a_cell({}, changes={1: WIDE, 16: WIDE}), 0.0)
    for text in answers(study(solving(base_cell(), 0.0), tuned)):
        assert text.startswith("Not answered: the base solved none of the 100 problems with 16")
        assert "use easier problems" in text and "excluded" not in text


@pytest.mark.parametrize(
    ("fields", "parts", "first_remedy"),
    [
        ({"truncated": 1400, "unparsable": 72}, ("88% were cut off", "4% had no"), "raise decoder"),
        (
            {"truncated": 1400, "unparsable": 72, "truncated_thinking": 700},
            ("88% were cut off (50% of these inside their thinking)",),
            "raise decoder",
        ),
        ({"truncated": 0, "unparsable": 900}, ("56% had no readable answer",), "correct the"),
    ],
)
def test_responses_that_cannot_be_read_are_a_matter_of_format(
    fields: dict[str, Any], parts: tuple[str, ...], first_remedy: str
) -> None:
    unread, read = base_cell(**fields), base_cell()
    tuned = a_cell({}, changes={1: UP, 16: DOWN})
    for text in answers(study(unread, tuned)):
        assert text.startswith("Not answered: of the base's responses, ")
        assert all(part in text for part in parts) and f"; {first_remedy}" in text
    lost_format = a_cell({}, changes={1: UP, 16: DOWN}, **fields)
    for text in answers(study(read, lost_format)):
        assert text.startswith("Not answered: of the fine-tuned model's responses, ")


def test_some_unread_responses_do_not_hide_a_loss() -> None:
    half = base_cell(truncated=700, unparsable=100)
    assert answers(study(half, a_cell({}, changes={1: UP, 16: DOWN})))[0].startswith("Yes")


def test_models_that_could_not_be_read_are_left_out_and_named() -> None:
    read, unread = (
        a_cell(0.0, changes={1: UP, 16: DOWN}),
        a_cell(0.5, changes={1: UP, 16: DOWN}, truncated=1500),
    )
    for text in answers(study(base_cell(), read, unread)):
        assert "had no readable answer: fork density 0.5." in text
        assert "density 0.5" not in text.partition("Left out")[0]
    assert answers(study(base_cell(), read, unread))[0].startswith("Yes: ")


@pytest.mark.parametrize(
    ("temperature", "same", "solved"), [(0.0, None, 0.6), (0.0, 100, 1.0), (0.7, 98, 0.6)]
)
def test_samples_that_are_all_the_same_say_nothing_about_more_tries(
    temperature: float, same: int | None, solved: float
) -> None:
    base = solving(base_cell(temperature=temperature, same_samples=same), solved)
    tuned = a_cell({}, temperature, changes={1: FLAT, 16: FLAT}, same_samples=same)
    for text in answers(study(base, tuned)):
        assert text.startswith("Not answered: all samples of a problem are the same response")
        assert "decoder.temperature" in text


@pytest.mark.parametrize(("same", "solved"), [(100, 1.0), (90, 0.6), (None, 0.6)])
def test_a_model_that_repeats_itself_is_compared_where_the_base_is_varied_or_always_right(
    same: int | None, solved: float
) -> None:
    base = solving(base_cell(same_samples=same), solved)
    tuned = a_cell({}, changes={1: UP, 16: DOWN}, same_samples=100)
    assert answers(study(base, tuned))[0].startswith("Yes")


def test_limits_that_exclude_nothing_are_not_called_an_exclusion() -> None:
    base = solving(base_cell(), 0.12)
    found = answer(Grid.of(study(base, a_cell({}, changes={1: FLAT, 16: WIDE}))))
    assert found.startswith("Not answered: with 16 tries per problem, no loss is clear")
    assert "the base solves 12 of every 100 problems" in found and "eval.problems" in found
    assert "can be excluded" in answer(
        Grid.of(study(solving(base_cell(), 0.5), a_cell({}, changes={1: FLAT, 16: WIDE})))
    )


def test_the_table_marks_no_change_and_no_crossing_where_there_is_no_answer() -> None:
    tuned = a_cell({}, changes={1: UP, 16: DOWN})
    header, rows = terminal_table(Grid.of(study(base_cell(truncated=1500), tuned)))
    assert not any("*" in cell for row in rows for cell in row)
    assert "k*" not in header
    _, answered = terminal_table(Grid.of(study(base_cell(), tuned)))
    assert any("*" in cell for row in answered for cell in row)
