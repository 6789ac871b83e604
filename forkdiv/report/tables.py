"""The tables of a study: headers and rows of texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from forkdiv.core.results import Cell
from forkdiv.report.grid import estimate

Row = list[str]

# to be aligned left
TEXT_COLUMNS = (
    *("model", "decoder", "structure", "synthesis", "loss", "subset", "mode", "kind", "study"),
)
OPEN_ROWS = 12  # a table that a page shows at once
WILSON = "†"  # marks limits that hold more often than the confidence says


@dataclass(frozen=True)
class First:
    """Some rows of a table under some of its columns; `said` tells which, after its title."""

    header: Row
    rows: list[Row]
    said: str


@dataclass(frozen=True)
class Table:
    """`first` is what a reader sees at once, where that is less than all."""

    header: Row
    rows: list[Row]
    first: First | None = field(default=None, kw_only=True)

    @property
    def is_short(self) -> bool:
        return len(self.rows) <= OPEN_ROWS


def pass_said(cell: Cell, k: int) -> str:
    value = estimate(cell.pass_at, k)
    return f"{value.value:.3f}" if value else "invalid"


def change_said(cell: Cell, k: int) -> str:
    """The change to the base with its limits, marked where those are of Wilson's kind; empty
    of the base."""
    change = estimate(cell.delta_to_base, k)
    if not change:
        return ""
    value, limits = change.parts(3)
    is_wilson = cell.delta_to_base[k].method == "wilson"
    return f"{value} ({limits}){WILSON if is_wilson else ''}"
