"""Section "Reliability": Cover@tau and G-Pass@k, which ask for more than one right sample."""

from __future__ import annotations

from collections.abc import Sequence

from forkdiv.core.results import Cell, Interval, Summary
from forkdiv.report.grid import ALL, Grid, as_estimate, nearest_1
from forkdiv.report.section import Content, Download, Part, Section, TableView, note, paragraph
from forkdiv.report.tables import Table

SAMPLES_PER_K = 3  # arXiv 2412.13147 estimates G-Pass@k from at least 3 k samples
MAIN_TAU = 0.5  # of the line in the terminal


def content(summary: Summary, grid: Grid) -> Content | None:
    table = values(grid)
    if table is None:
        return None
    parts: list[Part] = [
        paragraph(
            "pass@k is high as soon as one of k samples is right. cover@τ is the share of problems "
            "of which at least the share τ of the samples is right. g-pass@k_τ is the probability "
            "that at least the share τ of k samples is right, and mg-pass@k its mean over τ from "
            "0.5 to 1. A model that guesses is high in pass@k and low in these."
        ),
        TableView(table, "Cover@τ, G-Pass@k and mG-Pass@k", "reliability"),
    ]
    if changed := changes(grid):
        caption = f"Their change from the base, with {grid.percent} limits"
        parts.append(TableView(changed, caption, "reliability-change"))
    return [
        *parts,
        Download(long(grid), "every-reliability"),
        note(
            "cover@τ is estimated by the share of right samples of each problem: problems with a "
            "probability near τ are counted on either side. g-pass@k and mg-pass@k are unbiased. "
            "Sources: arXiv 2510.08325 (Cover@τ), arXiv 2412.13147 (G-Pass@k)."
        ),
    ]


def values(grid: Grid) -> Table | None:
    """Returns the values of every cell; None if no cell has any."""
    cells = [cell for cell in grid.cells if cell.reliability]
    if not cells:
        return None
    names = shown_names(cells)
    rows = [
        [*grid.row(cell), *(_value_text(cell.reliability.get(name)) for name in names)]
        for cell in cells
    ]
    return Table([*grid.columns, *names], rows)


def changes(grid: Grid) -> Table | None:
    """Returns the paired changes from the base with limits; None if no cell has any."""
    cells = [cell for cell in grid.cells if cell.reliability_delta]
    if not cells:
        return None
    names = shown_names(cells)
    rows = [
        [*grid.row(cell), *(change_text(cell.reliability_delta.get(name)) for name in names)]
        for cell in cells
    ]
    return Table([*grid.columns, *names], rows)


def long(grid: Grid) -> Table:
    """Returns every value with its limits: one row for each cell and metric."""
    header = ["metric", "value", "low", "high", "change", "change low", "change high"]
    rows = []
    for cell in grid.cells:
        for name, value in cell.reliability.items():
            pair = (value, cell.reliability_delta.get(name))
            numbers = [
                [repr(x) for x in (of.value, of.low, of.high)] if of else [""] * 3 for of in pair
            ]
            rows.append([*grid.row(cell), name, *numbers[0], *numbers[1]])
    return Table([*grid.columns, *header], rows)


def shown_names(cells: Sequence[Cell]) -> list[str]:
    """Returns the metrics that tables show: every cover@τ, and the others at the largest k of which
    a problem has SAMPLES_PER_K times as many samples."""
    shared = [name for name in cells[0].reliability if all(name in c.reliability for c in cells)]
    cover = [name for name in shared if name.startswith("cover@")]
    others = [(name, _k(name)) for name in shared if name not in cover]
    samples = min(cell.n_samples for cell in cells)
    ks = sorted({k for _, k in others})
    k = max([k for k in ks if SAMPLES_PER_K * k <= samples] or ks[:1], default=0)
    return [*cover, *(name for name, at in others if at == k)]


def headline(grid: Grid) -> str:
    """Returns cover@τ of the base and of a single tuned model, with the change, in one line; empty
    for several models or without values."""
    subset = ALL if ALL in grid.subsets else (grid.subsets or (ALL,))[0]
    if len(grid.settings) != 1 or not grid.temperatures:
        return ""
    temperature = nearest_1(grid.temperatures)
    models = [grid.at(setting, temperature, subset) for setting in (None, grid.settings[0])]
    if any(len(cells) != 1 for cells in models):
        return ""
    base, tuned = (cells[0] for cells in models)
    names = [name for name in tuned.reliability if name.startswith("cover@")]
    name = min(names, key=lambda name: abs(float(name[6:]) - MAIN_TAU), default="")
    change = tuned.reliability_delta.get(name)
    if change is None or name not in base.reliability:
        return ""
    before, after = (cell.reliability[name].value for cell in (base, tuned))
    share = f"{float(name[6:]) * 100:g}%"
    return (
        f"{name} (at least {share} of the samples of a problem are right): base {before:.3f}, "
        f"tuned {after:.3f}, change {change_text(change)}"
    )


def change_text(change: Interval | None) -> str:
    """Returns a change with its limits; empty if it is unknown."""
    known = as_estimate(change)
    if known is None:
        return ""
    value, limits = known.parts(3)
    return f"{value} ({limits})"


def _value_text(value: Interval | None) -> str:
    return f"{value.value:.3f}" if value else ""


def _k(name: str) -> int:
    return int(name.partition("@")[2].partition("_")[0])


SECTION = Section("Reliability", content)
