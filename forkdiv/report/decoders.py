"""Section "Results by way of measuring": pass@k of every model with every decoder of the study, or
under other settings of measuring that it varies."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, decoders_of, with_decoder
from forkdiv.report.numbers import numbers
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table


def content(summary: Summary, grid: Grid) -> Content | None:
    table = by_decoder(summary)
    if not table:
        return None
    return [
        paragraph(
            "Every model is measured in the same ways, by default with the same number of samples. "
            "The change is relative to the base that is measured in the same way. If a decoder "
            "forces first tokens or draws samples in trees, pass@k is that of k samples in "
            "sampling order."
        ),
        TableView(table, "Every way of measuring", "decoders", is_folded=True),
    ]


def by_decoder(summary: Summary) -> Table | None:
    """Returns the rows of `numbers` for each decoder, at the first and the last k that all
    decoders have; None if the study has one decoder."""
    names = decoders_of(summary)
    if len(names) < 2:
        return None
    grids = {name: Grid.of(with_decoder(summary, name)) for name in names}
    ks_by_decoder = [set(grid.ks) for grid in grids.values() if grid.ks]
    shared_ks = set.intersection(*ks_by_decoder) if ks_by_decoder else set()
    ends = tuple(sorted({min(shared_ks), max(shared_ks)})) if shared_ks else ()
    tables_by_decoder = {name: numbers(grid, ends) for name, grid in grids.items()}
    rows = [[str(name), *row] for name, table in tables_by_decoder.items() for row in table.rows]
    return Table([_first_column(summary), *tables_by_decoder[names[0]].header], rows)


def _first_column(summary: Summary) -> str:
    """Returns the name of the column of decoders, or of more than decoders if the study varies
    other settings of measuring."""
    axes = {axis for cell in summary.base for axis, value in cell.axes.items() if value is not None}
    return "decoder" if all(axis.startswith("decoder.") for axis in axes) else "measured with"


SECTION = Section("Results by way of measuring", content)
