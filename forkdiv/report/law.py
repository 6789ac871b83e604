"""The coverage law: what more samples than were drawn might give, and how far to trust that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

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
    rows = [[*grid.row(cell), *_row(cell, asked)] for cell in told]
    if any(cell["law"].get("rival") for cell in told):
        header += [*(f"beta: pass@{k}" for k in asked), "beta: off by"]
        rows = [[*row, *_rival(cell, asked)] for row, cell in zip(rows, told, strict=True)]
    return Table(header, rows)


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
        f"{apart} of them the two intervals lie apart." + _nearer(grid)
    )


def _nearer(grid: Grid) -> str:
    """How often the rival came nearer, where both were checked."""
    laws = [cell["law"] for cell in grid.cells if cell.get("law")]
    both = [
        (abs(law["heldout"]["error"]), abs(law["rival"]["heldout"]["error"]))
        for law in laws
        if law["heldout"] and (law.get("rival") or {}).get("heldout")
    ]
    if not both:
        return ""
    nearer = sum(1 for law, rival in both if rival < law)
    return (
        f" Beta-distributed chances of the problems, checked in the same way, missed by up to "
        f"{max(rival for _, rival in both):.3f} and were nearer in {nearer} of {len(both)}: go by "
        f"what was nearer in a cell's own row."
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
    row += _predicted(law, asked)
    check = law["heldout"]
    if not check:
        return [*row, "", "", "", ""]
    sides = [as_estimate(check[name]) for name in ("predicted", "observed")]
    said = [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" if one else "" for one in sides]
    off = signed(check["error"])
    return [*row, f"k={check['at_k']} from {check['fit_n']}", *said, off]


def _rival(cell: Cell, asked: list[int]) -> list[str]:
    """What beta-distributed chances predict, and how far off they were."""
    rival = cell["law"].get("rival")
    if not rival:
        return [""] * (len(asked) + 1)
    check = rival["heldout"]
    return [*_predicted(rival, asked), signed(check["error"]) if check else ""]


def _predicted(found: Mapping[str, Any], asked: list[int]) -> list[str]:
    told = [as_estimate(found["predictions"].get(str(k))) for k in asked]
    return [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" if one else "" for one in told]


def _overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return bool(one["low"] <= other["high"] and other["low"] <= one["high"])
