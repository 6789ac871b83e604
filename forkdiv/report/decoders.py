"""Coverage by other ways to draw and to use samples: other decoders, a vote, the best of each."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, as_estimate, estimate, thinned
from forkdiv.report.setting import Setting, title
from forkdiv.report.tables import Table

MOST_KS = 5


def majority(grid: Grid) -> Table | None:
    """The chance that the majority of k answers is correct, beside pass@k of the largest k."""
    told = [cell for cell in grid.cells if cell.valid and cell.majority_at]
    if not told:
        return None
    shared = set.intersection(*(set(cell.majority_at) for cell in told))
    ks = thinned(sorted(shared), MOST_KS)
    header = [*grid.columns, *(f"majority@{k}" for k in ks)]
    header += [f"pass@{k}" for k in ks[-1:]]
    rows = []
    for cell in told:
        row = [*grid.row(cell), *(f"{cell.majority_at[k]:.3f}" for k in ks)]
        found = [estimate(cell.pass_at, k) for k in ks[-1:]]
        rows.append([*row, *(f"{one.value:.3f}" if one else "" for one in found)])
    return Table(header, rows)


def best(summary: Summary, grid: Grid) -> Table | None:
    """Base and tuned model, each under the decoder and temperature that was best for it."""
    if not summary.best_decoders:
        return None
    header = [
        *(map(title, grid.axes) if grid.axes else ["model"]),
        *("seed", "subset", "k", "best for the base", "best for the tuned"),
        "change in pass@k",
    ]
    made = []
    for row in summary.best_decoders:
        setting = Setting(grid.axes, tuple(row.axes[axis] for axis in grid.axes))
        change = as_estimate(row.delta)
        of_base = _decoder(row.base_decoder, row.base_temperature)
        of_tuned = _decoder(row.tuned_decoder, row.tuned_temperature)
        said = "{} ({})".format(*change.parts(3)) if change else ""
        first = [*(setting.texts or ["tuned"]), str(row.seed), row.subset, str(row.k)]
        made.append([*first, of_base, of_tuned, said])
    return Table(header, made)


def _decoder(name: str | None, temperature: float) -> str:
    return f"{name}, T={temperature:g}" if name else f"{temperature:g}"
