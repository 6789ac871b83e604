"""The summary table of a study: one row for each model, with pass@k at three k, and k*."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forkdiv.core.results import Crossing
from forkdiv.report import unanswered
from forkdiv.report.grid import ALL, Estimate, Grid, nearest_1, signed, thinned
from forkdiv.report.setting import Setting

MAX_MODELS = 12


@dataclass(frozen=True)
class Value:
    """pass@k of one model, and its change to the base (None for the base, or if unknown). If the
    results cannot answer the question, no change is `marked`."""

    pass_at: Estimate | None
    change: Estimate | None
    marked: bool = True

    @property
    def mark(self) -> str:
        """Returns `gain` or `loss` if the limits of the change exclude 0, else an empty text."""
        known = self.change if self.marked else None
        return {1: "gain", -1: "loss"}.get(known.direction if known else 0, "")


@dataclass(frozen=True)
class Row:
    """`readable` is the share of readable responses; `crossing` is k* in words, empty for the
    base."""

    name: str
    values: tuple[Value, ...]
    readable: str
    crossing: str


@dataclass(frozen=True)
class Glance:
    """`ks` are the smallest, a middle and the largest k; `more` models are not in `rows`."""

    temperature: float
    ks: tuple[int, ...]
    rows: tuple[Row, ...]
    more: int

    @classmethod
    def of(cls, grid: Grid) -> Glance | None:
        """Returns the table on all problems at the temperature nearest 1; None without a valid
        result."""
        if not grid.temperatures or not grid.ks:
            return None
        temperature, subset = nearest_1(grid.temperatures), whole_subset(grid)
        ks = three_ks(grid.ks)
        shown = thinned(grid.settings, MAX_MODELS)
        answered = not unanswered.reason(grid, temperature, subset)
        rows = []
        for model in (None, *shown):
            if not grid.at(model, temperature, subset):
                continue
            values = tuple(
                Value(
                    grid.pass_at(model, temperature, subset, k),
                    grid.change(model, temperature, subset, k) if model else None,
                    answered,
                )
                for k in ks
            )
            crossing = ""
            if model and answered:
                crossing = _crossing_texts(grid, model, temperature, subset)
            readable = grid.readable(model, temperature, subset)
            rows.append(Row(model.label if model else "base", values, readable, crossing))
        return cls(temperature, ks, tuple(rows), len(grid.settings) - len(shown))

    @property
    def knows_crossings(self) -> bool:
        return any(row.crossing for row in self.rows)


def terminal_table(grid: Grid) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows for a narrow terminal: one row for each model, pass@k at the smallest
    and the largest k, its change to the base (* if the limits exclude 0), the share of readable
    responses, and k*."""
    glance = Glance.of(grid)
    if glance is None:
        return ["model"], [["no valid result"]]
    ends = sorted({0, len(glance.ks) - 1})
    header = ["model", *(text for at in ends for text in (f"pass@{glance.ks[at]}", "change"))]
    header.append("readable")
    rows = []
    for row in glance.rows:
        cells = [row.name]
        for at in ends:
            value, change = row.values[at].pass_at, row.values[at].change
            cells.append(f"{value.value:.3f}" if value else "invalid")
            mark = "*" if row.values[at].mark else ""
            cells.append(f"{signed(change.value)}{mark}" if change else "")
        rows.append([*cells, row.readable, row.crossing.partition(" (")[0]])
    if glance.knows_crossings:
        return [*header, "k*"], rows
    return header, [row[:-1] for row in rows]


def terminal_title(grid: Grid) -> str:
    """Returns the title of `terminal_table`."""
    glance = Glance.of(grid)
    place = f"temperature {glance.temperature:g}, " if glance else ""
    more = f"; {glance.more} more models in the report" if glance and glance.more else ""
    return f"pass@k on all problems ({place}* {grid.percent} limits exclude 0{more})"


def whole_subset(grid: Grid) -> str:
    """Returns the subset of all problems, or the first subset if there is none."""
    return ALL if ALL in grid.subsets else grid.subsets[0]


def three_ks(ks: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the smallest and the largest k, and the k nearest to their geometric mean."""
    if not ks:
        return ()
    middle = math.log(ks[0] * ks[-1]) / 2
    return tuple(sorted({ks[0], min(ks, key=lambda k: abs(math.log(k) - middle)), ks[-1]}))


def crossing_text(crossing: Crossing, largest: int) -> str:
    """Returns k* with its interval, or the reason why there is none."""
    if crossing.k is None:
        return f"no loss up to {largest}" if crossing.above_at_1 else "no gain at k=1"
    ends = [None if limit is None else f"{limit:.3g}" for limit in (crossing.low, crossing.high)]
    span = f"{ends[0] or 'below 1'} to {ends[1] or f'beyond {largest}'}"
    return f"{crossing.k:.3g} ({span})"


def _crossing_texts(grid: Grid, model: Setting, temperature: float, subset: str) -> str:
    """Returns k* of a single seed with its interval; of several seeds only the values."""
    crossings = [
        (cell.shrinkage.crossing, max(cell.delta_to_base))
        for cell in grid.at(model, temperature, subset)
        if cell.shrinkage and cell.delta_to_base
    ]
    if len(crossings) <= 1:
        return "".join(crossing_text(*crossing_and_k) for crossing_and_k in crossings)
    return "; ".join(
        f"{crossing.k:.3g}" if crossing.k is not None else crossing_text(crossing, largest)
        for crossing, largest in crossings
    )
