"""The study at a glance: a row per model, with pass@k at three k and the k from which it loses."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forkdiv.core.results import Crossing
from forkdiv.report.grid import ALL, Estimate, Grid, nearest_1, signed, thinned
from forkdiv.report.setting import Setting

MOST_MODELS = 12


@dataclass(frozen=True)
class Value:
    """pass@k of one model, and its change to the base: None for the base and where unknown."""

    pass_at: Estimate | None
    change: Estimate | None

    @property
    def mark(self) -> str:
        """Whether the limits of the change exclude 0: gain, loss or neither."""
        return {1: "gain", -1: "loss"}.get(self.change.direction if self.change else 0, "")


@dataclass(frozen=True)
class Row:
    """`crossing` is k* in words; empty for the base."""

    name: str
    values: tuple[Value, ...]
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
        """On all problems, at the temperature nearest 1; None where nothing valid was measured."""
        if not grid.temperatures or not grid.ks:
            return None
        near, subset = nearest_1(grid.temperatures), whole(grid)
        ks = few_ks(grid.ks)
        shown = thinned(grid.settings, MOST_MODELS)
        rows = []
        for model in (None, *shown):
            if not grid.at(model, near, subset):
                continue
            values = tuple(
                Value(
                    grid.pass_at(model, near, subset, k),
                    grid.change(model, near, subset, k) if model else None,
                )
                for k in ks
            )
            crossing = _crossings(grid, model, near, subset) if model else ""
            rows.append(Row(model.label if model else "base", values, crossing))
        return cls(near, ks, tuple(rows), len(grid.settings) - len(shown))

    @property
    def knows_crossings(self) -> bool:
        return any(row.crossing for row in self.rows)


def terminal_table(grid: Grid) -> tuple[list[str], list[list[str]]]:
    """Header and rows for a narrow terminal: one row per model, pass@k at the smallest and the
    largest k, its change to the base (* where the limits exclude 0), and k*."""
    glance = Glance.of(grid)
    if glance is None:
        return ["model"], [["no valid result"]]
    ends = sorted({0, len(glance.ks) - 1})
    header = ["model", *(text for at in ends for text in (f"pass@{glance.ks[at]}", "change"))]
    rows = []
    for row in glance.rows:
        cells = [row.name]
        for at in ends:
            value, change = row.values[at].pass_at, row.values[at].change
            cells.append(f"{value.value:.3f}" if value else "invalid")
            mark = "*" if row.values[at].mark else ""
            cells.append(f"{signed(change.value)}{mark}" if change else "")
        rows.append([*cells, row.crossing.partition(" (")[0]])
    if glance.knows_crossings:
        return [*header, "k*"], rows
    return header, [row[:-1] for row in rows]


def terminal_title(grid: Grid) -> str:
    """What the rows of `terminal_table` hold, and where the rest is."""
    glance = Glance.of(grid)
    where = f"temperature {glance.temperature:g}, " if glance else ""
    more = f"; {glance.more} more models in the report" if glance and glance.more else ""
    return f"pass@k on all problems ({where}* {grid.percent} limits exclude 0{more})"


def whole(grid: Grid) -> str:
    """The subset that holds all problems, or the first where none does."""
    return ALL if ALL in grid.subsets else grid.subsets[0]


def few_ks(ks: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest and the largest k, and the one that is nearest to the middle of their logs."""
    if not ks:
        return ()
    middle = math.log(ks[0] * ks[-1]) / 2
    return tuple(sorted({ks[0], min(ks, key=lambda k: abs(math.log(k) - middle)), ks[-1]}))


def crossing_text(crossing: Crossing, largest: int) -> str:
    """k* with its interval, or why there is none."""
    if crossing.k is None:
        return f"no loss up to {largest}" if crossing.above_at_1 else "no gain at k=1"
    sides = [None if one is None else f"{one:.3g}" for one in (crossing.low, crossing.high)]
    span = f"{sides[0] or 'below 1'} to {sides[1] or f'beyond {largest}'}"
    return f"{crossing.k:.3g} ({span})"


def _crossings(grid: Grid, model: Setting, temperature: float, subset: str) -> str:
    """Of one seed with its interval, of several the value of each."""
    known = [
        (cell.shrinkage.crossing, max(cell.delta_to_base))
        for cell in grid.at(model, temperature, subset)
        if cell.shrinkage and cell.delta_to_base
    ]
    if len(known) <= 1:
        return "".join(crossing_text(*one) for one in known)
    return "; ".join(
        f"{crossing.k:.3g}" if crossing.k is not None else crossing_text(crossing, largest)
        for crossing, largest in known
    )
