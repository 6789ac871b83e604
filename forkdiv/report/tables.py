"""The tables of a study: headers and rows of texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from forkdiv.core.results import Cell
from forkdiv.report.grid import estimate, share_text

Row = list[str]

# aligned left, as the columns of axes whose values are texts
TEXT_COLUMNS = frozenset(
    {"model", "decoder", "measured with", "subset", "mode", "metric", "kind", "study"}
)
MAX_OPEN_ROWS = 12  # longer tables are collapsed on the page
WILSON = "†"  # marks conservative limits


@dataclass(frozen=True)
class FirstRows:
    """Some rows and columns of a table; `conditions` describes them and follows the caption."""

    header: Row
    rows: list[Row]
    conditions: str


@dataclass(frozen=True)
class Table:
    """`first` are the rows that are shown first, if not all."""

    header: Row
    rows: list[Row]
    first: FirstRows | None = field(default=None, kw_only=True)

    @property
    def is_short(self) -> bool:
        return len(self.rows) <= MAX_OPEN_ROWS


def truncated_text(cell: Cell) -> str:
    """Returns the number of truncated samples, and how many of them were cut off inside their
    thinking."""
    return f"{cell.truncated:,}{in_thinking(cell)}"


def in_thinking(cell: Cell) -> str:
    """Returns the number of samples that were cut off inside their thinking, in brackets; empty
    without any."""
    return f" ({cell.truncated_thinking:,} in thinking)" if cell.truncated_thinking else ""


def pass_at_text(cell: Cell, k: int) -> str:
    value = estimate(cell.pass_at, k)
    return f"{value.value:.3f}" if value else "invalid"


def readable_text(cell: Cell) -> str:
    """Returns the share of responses that were neither truncated nor unparsable."""
    return share_text(cell.readable_share) if cell.valid else ""


def change_text(cell: Cell, k: int) -> str:
    """Returns the change to the base with its limits, with a mark for Wilson limits; empty for the
    base."""
    change = estimate(cell.delta_to_base, k)
    if not change:
        return ""
    value, limits = change.parts(3)
    is_wilson = cell.delta_to_base[k].method == "wilson"
    return f"{value} ({limits}){WILSON if is_wilson else ''}"
