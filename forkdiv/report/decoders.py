"""Tables of majority vote, and of the best decoder of each model."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, as_estimate, estimate, thinned
from forkdiv.report.setting import Setting, title
from forkdiv.report.tables import Table

MAX_KS = 5


def majority(grid: Grid) -> Table | None:
    """Returns the probability that the majority of k answers is correct, and pass@k for the
    largest k."""
    with_majority = [cell for cell in grid.cells if cell.valid and cell.majority_at]
    if not with_majority:
        return None
    shared = set.intersection(*(set(cell.majority_at) for cell in with_majority))
    ks = thinned(sorted(shared), MAX_KS)
    header = [*grid.columns, *(f"majority@{k}" for k in ks)]
    header += [f"pass@{k}" for k in ks[-1:]]
    rows = []
    for cell in with_majority:
        row = [*grid.row(cell), *(f"{cell.majority_at[k]:.3f}" for k in ks)]
        pass_at = [estimate(cell.pass_at, k) for k in ks[-1:]]
        rows.append([*row, *(f"{value.value:.3f}" if value else "" for value in pass_at)])
    return Table(header, rows)


def best(summary: Summary, grid: Grid) -> Table | None:
    """Returns base and tuned model, each with its best decoder and temperature."""
    if not summary.best_decoders:
        return None
    header = [
        *(map(title, grid.axes) if grid.axes else ["model"]),
        *("seed", "subset", "k", "best for base", "best for tuned"),
        "change in pass@k",
    ]
    rows = []
    for row in summary.best_decoders:
        setting = Setting(grid.axes, tuple(row.axes[axis] for axis in grid.axes))
        change = as_estimate(row.delta)
        of_base = _decoder(row.base_decoder, row.base_temperature)
        of_tuned = _decoder(row.tuned_decoder, row.tuned_temperature)
        change_text = "{} ({})".format(*change.parts(3)) if change else ""
        first = [*(setting.texts or ["tuned"]), str(row.seed), row.subset, str(row.k)]
        rows.append([*first, of_base, of_tuned, change_text])
    return Table(header, rows)


def _decoder(name: str | None, temperature: float) -> str:
    return f"{name}, T={temperature:g}" if name else f"{temperature:g}"
