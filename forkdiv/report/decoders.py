"""Section "Under each decoder": pass@k of every model under every decoder of the study."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, decoders_of, under
from forkdiv.report.numbers import numbers
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table


def content(summary: Summary, grid: Grid) -> Content | None:
    table = of_decoders(summary)
    if not table:
        return None
    return [
        paragraph(
            "The same number of samples of every model under every decoder. The change is that to "
            "the base under the same decoder. Where samples are forced through first tokens, or "
            "drawn in trees along the forks of a response, pass@k is of k samples in the order "
            "they are drawn."
        ),
        TableView(table, "Every decoder", "decoders", is_folded=True),
    ]


def of_decoders(summary: Summary) -> Table | None:
    """`numbers` under each decoder, one's rows after the other's, at the ends of the k that all
    were measured at; None where the study does not vary decoders."""
    names = decoders_of(summary)
    if len(names) < 2:
        return None
    grids = {name: Grid.of(under(summary, name)) for name in names}
    measured = [set(grid.ks) for grid in grids.values() if grid.ks]
    shared = set.intersection(*measured) if measured else set()
    ends = tuple(sorted({min(shared), max(shared)})) if shared else ()
    made = {name: numbers(grid, ends) for name, grid in grids.items()}
    rows = [[str(name), *row] for name, one in made.items() for row in one.rows]
    return Table(["decoder", *made[names[0]].header], rows)


SECTION = Section("Under each decoder", content)
