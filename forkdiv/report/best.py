"""Section "Best decoder of each model"."""

from __future__ import annotations

from forkdiv.core.config.axis_names import title
from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, as_estimate
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.tables import Table


def content(summary: Summary, grid: Grid) -> Content | None:
    table = best(summary, grid)
    if not table:
        return None
    return [
        paragraph(
            "In all other sections, both models are sampled with the same decoder. Here, each "
            "model has its own best decoder, chosen by pass@k on the validation problems and "
            "evaluated on the held-out problems."
        ),
        TableView(table, "Each model with its best decoder", "best"),
    ]


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
        setting = Setting(grid.axes, tuple(row.axes.get(axis) for axis in grid.axes))
        change = as_estimate(row.delta)
        base_decoder = _decoder(row.base_decoder, row.base_temperature)
        tuned_decoder = _decoder(row.tuned_decoder, row.tuned_temperature)
        change_text = "{} ({})".format(*change.parts(3)) if change else ""
        first = [*(setting.texts or ["tuned"]), str(row.seed), row.subset, str(row.k)]
        rows.append([*first, base_decoder, tuned_decoder, change_text])
    return Table(header, rows)


def _decoder(name: str | None, temperature: float) -> str:
    return f"{name}, T={temperature:g}" if name else f"{temperature:g}"


SECTION = Section("Best decoder of each model", content)
