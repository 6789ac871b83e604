"""Whether the results can answer the question at all.

A small change with tight limits says nothing about coverage if the base solves nothing, if the
responses could not be read, or if every try is the same response. Then the report says why there is
no answer, and what to do, instead of a claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from forkdiv.core.results import Cell
from forkdiv.report.grid import Grid
from forkdiv.report.setting import Setting, listed

MOST_UNREAD = 0.5  # share of responses without a verdict on their content
MOST_SAME = 0.95  # share of problems whose samples are all the same response
NOTHING = 1e-9
MAX_NAMED = 3


def reason(grid: Grid, temperature: float, subset: str) -> str:
    """Returns why the question is not answered, and what to do; empty if it can be answered."""
    base = grid.at(None, temperature, subset)
    if text := _unread_text(base, "the base's responses"):
        return text
    if text := _same_text(base, temperature):
        return text
    if text := _unsolved_text(base):
        return text
    unread = _unread_settings(grid, temperature, subset)
    if unread and len(unread) == len(_measured(grid, temperature, subset)):
        cells = [cell for setting in unread for cell in grid.at(setting, temperature, subset)]
        whose = "the fine-tuned model's" if len(unread) == 1 else "the fine-tuned models'"
        return _unread_text(cells, f"{whose} responses")
    return ""


def readable(grid: Grid, temperature: float, subset: str) -> tuple[Grid, str]:
    """Returns the grid without the models whose responses could mostly not be read, and a sentence
    that names them; the same grid and an empty text if there are none."""
    unread = _unread_settings(grid, temperature, subset)
    if not unread:
        return grid, ""
    kept = tuple(setting for setting in grid.settings if setting not in unread)
    names = listed([setting.label for setting in unread[:MAX_NAMED]])
    more = f" and {len(unread) - MAX_NAMED} more" if len(unread) > MAX_NAMED else ""
    text = (
        f"Left out, because most of their responses were cut off or had no readable answer: "
        f"{names}{more}"
    )
    return replace(grid, settings=kept), text


def _measured(grid: Grid, temperature: float, subset: str) -> list[Setting]:
    return [setting for setting in grid.settings if grid.at(setting, temperature, subset)]


def _unread_settings(grid: Grid, temperature: float, subset: str) -> list[Setting]:
    return [
        setting
        for setting in _measured(grid, temperature, subset)
        if sum(_unread_shares(grid.at(setting, temperature, subset))) > MOST_UNREAD
    ]


def _unread_shares(cells: Sequence[Cell]) -> tuple[float, float]:
    """Returns the shares of truncated and of unparsable responses."""
    drawn = sum(cell.n_drawn or cell.n_problems * cell.n_samples for cell in cells)
    if not drawn:
        return 0.0, 0.0
    truncated, unparsable = sum(c.truncated for c in cells), sum(c.unparsable for c in cells)
    return truncated / drawn, unparsable / drawn


def _unread_text(cells: Sequence[Cell], responses: str) -> str:
    truncated, unparsable = _unread_shares(cells)
    if truncated + unparsable <= MOST_UNREAD:
        return ""
    parts, remedies = [], []
    if truncated:
        parts.append(f"{100 * truncated:.0f}% were cut off{_in_thinking(cells)}")
        remedies.append("raise decoder.max_new_tokens")
    if unparsable:
        parts.append(f"{100 * unparsable:.0f}% had no readable answer")
        remedies.append(
            "correct the prompt or the grader (prompt.template, prompt.shots, task.grader)"
        )
    if unparsable > truncated:
        remedies.reverse()
    return (
        f"of {responses}, {listed(parts)}, so that pass@k measures their format and not the "
        f"ability to solve the problems; {', or '.join(remedies)}"
    )


def _in_thinking(cells: Sequence[Cell]) -> str:
    """Returns how many of the truncated responses were cut off inside their thinking."""
    inside, truncated = (
        sum(cell.truncated_thinking for cell in cells),
        sum(cell.truncated for cell in cells),
    )
    return f" ({100 * inside / truncated:.0f}% of these inside their thinking)" if inside else ""


def _same_text(cells: Sequence[Cell], temperature: float) -> str:
    solved = max((value for cell in cells if (value := _at_largest_k(cell)) is not None), default=0)
    known = [cell for cell in cells if cell.same_samples is not None]
    same = sum(cell.same_samples or 0 for cell in known)
    problems = sum(cell.n_problems for cell in known)
    always = bool(known) and same == problems
    mostly = bool(known) and same >= MOST_SAME * problems and solved < 1
    greedy = temperature == 0 and (always or not known)
    if not greedy and not mostly:
        return ""
    share = "" if always or not known else f" for {100 * same / problems:.0f}% of the problems"
    remedy = (
        "set decoder.temperature above 0"
        if temperature == 0
        else "raise decoder.temperature, or relax top_k, top_p and min_p"
    )
    return (
        f"all samples of a problem are the same response{share} (temperature {temperature:g}), so "
        f"that more tries cannot solve more; {remedy}"
    )


def _unsolved_text(cells: Sequence[Cell]) -> str:
    values = [value for cell in cells if (value := _at_largest_k(cell)) is not None]
    if not values or max(values) > NOTHING:
        return ""
    problems, samples = cells[0].n_problems, cells[0].n_samples
    return (
        f"the base solved none of the {problems:,} problems with {samples} tries each, so that it "
        "has no coverage that could be lost; use easier problems, and check the prompt and the "
        "grader on some of its responses"
    )


def _at_largest_k(cell: Cell) -> float | None:
    value = cell.pass_at[max(cell.pass_at)] if cell.pass_at else None
    return None if value is None else value.value
