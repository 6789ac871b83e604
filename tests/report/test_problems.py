"""Problems lost and gained: what is shown, what is cut, and that it is said."""

from __future__ import annotations

from typing import Any

from forkdiv.report import problems
from forkdiv.report.grid import Grid
from forkdiv.report.problems import MAX_PAGE_CHARS, MAX_TEXT_CHARS
from tests.simulated import a_problem, a_study
from tests.summaries import a_cell, a_summary


def lost(*found: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    crossing = {"k": None, "low": None, "high": None, "share": 0.0, "above_at_1": True}
    return {
        "at_k": 16,
        "lost_count": count or len(found),
        "gained_count": 0,
        "lost": list(found),
        "gained": [],
        "crossing": crossing,
        "largest_loss": None,
    }


def test_what_is_not_shown_is_counted() -> None:
    cell = a_cell(0.5, shrinkage=lost(a_problem("a", 60, 0), a_problem("b", 50, 0), count=40))
    (model,) = problems.models(Grid.of(a_summary([cell])))
    assert model.name == "fork density 0.5"
    assert [(one.kind, one.count, one.more, one.k) for one in model.groups] == [
        ("lost", 40, 38, 16),
        ("gained", 0, 0, 16),
    ]


def test_a_sample_that_does_not_exist_is_not_shown_and_an_empty_one_is() -> None:
    told = a_problem("a", 64, 0)
    told["tuned"]["wrong"] = ""
    cell = a_cell(0.5, shrinkage=lost(told))
    (model,) = problems.models(Grid.of(a_summary([cell])))
    base, tuned = model.groups[0].problems[0].sides
    assert [(kind, text is None) for kind, text in base.samples] == [
        ("right", False),
        ("wrong", True),
    ]
    assert [text.shown for _, text in tuned.samples if text] == [""]


def test_a_long_text_is_cut_and_the_rest_is_counted() -> None:
    told = a_problem("a", 60, 0)
    told["prompt"] = "x" * (MAX_TEXT_CHARS + 123)
    cell = a_cell(0.5, shrinkage=lost(told))
    (model,) = problems.models(Grid.of(a_summary([cell])))
    prompt = model.groups[0].problems[0].prompt
    assert (len(prompt.shown), prompt.hidden) == (MAX_TEXT_CHARS, 123)


def test_together_they_never_fill_a_page_beyond_its_limit() -> None:
    def long(name: str) -> dict[str, Any]:
        told = a_problem(name, 60, 2)
        for side in ("base", "tuned"):
            told[side].update(right="r" * 10_000, wrong="w" * 10_000)
        return told

    cells = [
        a_cell(
            {"direction": i / 30}, shrinkage=lost(*(long(f"{i}-{j}") for j in range(12)), count=12)
        )
        for i in range(30)
    ]
    found = problems.models(Grid.of(a_summary(cells)))
    shown = [one for model in found for group in model.groups for one in group.problems]
    assert len(found) == problems.MAX_MODELS
    assert sum(one.characters for one in shown) <= MAX_PAGE_CHARS
    told = sum(group.more for model in found for group in model.groups)
    assert told == 12 * len(found) - len(shown)


def test_listed_are_all_problems_at_the_temperature_nearest_1_and_the_rest_is_told() -> None:
    grid = Grid.of(a_study(seeds=(0, 1), temperatures=(0.7, 1.3, 1.1), epochs=(8,)))
    found = problems.models(grid)
    assert [model.name for model in found] == [
        *("fork density 0, seed 0", "fork density 0.5, seed 0", "fork density 1, seed 0")
    ]
    assert problems.omitted_sentence(grid).startswith(
        "Listed here: 3 of 18 models and temperatures"
    )
    assert "temperature 1.1." in problems.omitted_sentence(grid)


def test_a_study_that_was_not_asked_has_none() -> None:
    grid = Grid.of(a_summary([a_cell(0.5)]))
    assert (problems.models(grid), problems.omitted_sentence(grid)) == ([], "")
