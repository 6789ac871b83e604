"""Section "Each under its best decoder": base and tuned model, each with the decoder that was
best for it."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, as_estimate
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.setting import Setting, title
from forkdiv.report.tables import Table


def content(summary: Summary, grid: Grid) -> Content | None:
    table = best(summary, grid)
    if not table:
        return None
    return [
        paragraph(
            "Elsewhere both models are sampled under the same decoder. Here each has the one that "
            "was best for it, chosen by pass@k on the validation problems and judged on the "
            "held-out ones."
        ),
        TableView(table, "Each model under its best decoder", "best"),
    ]


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


SECTION = Section("Each under its best decoder", content)
