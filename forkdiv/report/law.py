"""The coverage law: what more samples than were drawn might give, and how far to trust that."""

from __future__ import annotations

from collections import Counter

from forkdiv.report.grid import Cell, Grid, as_estimate, signed
from forkdiv.report.tables import Table


def table(grid: Grid) -> Table | None:
    """One row per cell with a fit; None where there is none."""
    told = [cell for cell in grid.cells if cell.get("law")]
    if not told:
        return None
    asked = sorted({int(k) for cell in told for k in cell["law"]["predictions"]})
    header = [*grid.columns, "a", "b", *(f"predicted pass@{k}" for k in asked)]
    header += ["checked", "predicted there", "measured there", "off by"]
    return Table(header, [[*grid.row(cell), *_row(cell, asked)] for cell in told])


def worst(grid: Grid) -> str:
    """The held-out check in a sentence; empty where none was made."""
    checked = [cell["law"]["heldout"] for cell in grid.cells if cell.get("law")]
    errors = [abs(one["error"]) for one in checked if one]
    if not errors:
        return ""
    outside = sum(1 for one in checked if one and not _overlap(one["predicted"], one["observed"]))
    apart = "none" if not outside else str(outside)
    return (
        f"Checked in {len(errors)} cells by fitting it to a part of each problem's samples and "
        f"asking all the others: it missed the measured value by up to {max(errors):.3f}, and in "
        f"{apart} of them the two intervals lie apart."
    )


def without(grid: Grid) -> str:
    """How many cells have no law and why, in a sentence; empty where all have one."""
    reasons = Counter(cell["no_law"] for cell in grid.cells if cell.get("no_law"))
    told = "; ".join(f"in {cells}, {reason}" for reason, cells in reasons.most_common())
    return f"Not fitted in {reasons.total()} cells: {told}." if told else ""


def _row(cell: Cell, asked: list[int]) -> list[str]:
    law = cell["law"]
    row = [f"{law[x]:.3f} ({signed(law[f'{x}_low'])} to {signed(law[f'{x}_high'])})" for x in "ab"]
    row = [text.replace("-", "\N{MINUS SIGN}") for text in row]
    for k in asked:
        found = as_estimate(law["predictions"].get(str(k)))
        row.append(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})" if found else "")
    check = law["heldout"]
    if not check:
        return [*row, "", "", "", ""]
    sides = [as_estimate(check[name]) for name in ("predicted", "observed")]
    said = [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" if one else "" for one in sides]
    off = signed(check["error"])
    return [*row, f"k={check['at_k']} from {check['fit_n']}", *said, off]


def _overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return bool(one["low"] <= other["high"] and other["low"] <= one["high"])
