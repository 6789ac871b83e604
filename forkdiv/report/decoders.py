"""Coverage by other ways to draw and to use samples: other decoders, a vote, the best of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.report.grid import Grid, as_estimate, estimate
from forkdiv.report.panels import thinned
from forkdiv.report.setting import Setting, title
from forkdiv.report.tables import Table

MOST_KS = 5


def majority(grid: Grid) -> Table | None:
    """The chance that the majority of k answers is correct, beside pass@k of the largest k."""
    told = [cell for cell in grid.cells if cell["valid"] and cell.get("majority_at")]
    if not told:
        return None
    shared = set.intersection(*({int(k) for k in cell["majority_at"]} for cell in told))
    ks = thinned(sorted(shared), MOST_KS)
    header = [*grid.columns, *(f"majority@{k}" for k in ks)]
    header += [f"pass@{k}" for k in ks[-1:]]
    rows = []
    for cell in told:
        row = [*grid.row(cell), *(f"{cell['majority_at'][str(k)]:.3f}" for k in ks)]
        found = [estimate(cell, "pass_at", k) for k in ks[-1:]]
        rows.append([*row, *(f"{one.value:.3f}" if one else "" for one in found)])
    return Table(header, rows)


def best(summary: Mapping[str, Any], grid: Grid) -> Table | None:
    """Base and tuned model, each under the decoder and temperature that was best for it."""
    rows = summary.get("best_decoders") or []
    if not rows:
        return None
    header = [
        *(map(title, grid.axes) if grid.axes else ["model"]),
        *("seed", "subset", "k", "best for the base", "best for the tuned"),
        "change in pass@k",
    ]
    made = []
    for row in rows:
        setting = Setting(grid.axes, tuple(row[axis] for axis in grid.axes))
        change = as_estimate(row["delta"])
        heat = (_decoder(row, who) for who in ("base", "tuned"))
        said = "{} ({})".format(*change.parts(3)) if change else ""
        first = [*(setting.texts or ["tuned"]), str(row["seed"]), row["subset"], str(row["k"])]
        made.append([*first, *heat, said])
    return Table(header, made)


def _decoder(row: Mapping[str, Any], who: str) -> str:
    name, heat = row.get(f"{who}_decoder"), f"{row[f'{who}_temperature']:g}"
    return f"{name}, T={heat}" if name else heat
