"""The report of a study: its summary in, one HTML page and PNG figures out. Pure: no cluster.

Only what draws imports matplotlib, so that a table or a headline costs little.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from forkdiv.artifacts import write_text
from forkdiv.grid import Cell, Grid, estimate, ordered, place, signed
from forkdiv.headline import headline, warning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curve_figure", "figures", "headline", "table", "warning", "write"]

LOST_TITLES = {"other_ends": "wrong: another end", "broken_path": "wrong: broken path"}


def write(summary: dict[str, Any], folder: Path) -> Path:
    """Write `report.html`, one page that needs no network, and `figures/*.png`.

    Each file is written aside and renamed. Returns the path of the page.
    """
    from forkdiv.figures import STYLE

    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(summary).items():
        aside = pictures / f".{name}.{uuid.uuid4().hex[:8]}"
        try:
            figure.savefig(aside, format="png", dpi=STYLE["savefig.dpi"])
            aside.rename(pictures / f"{name}.png")
        finally:
            aside.unlink(missing_ok=True)
    path = folder / "report.html"
    write_text(path, _page(summary))
    return path


def table(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, base first: one row per density, temperature, seed and subset."""
    grid = Grid.of(summary)
    header = ["fork density", "temperature", "seed", "subset"]
    for k in grid.ends:
        header += [f"pass@{k}", f"change at {k}"]
    rows = []
    for cell in ordered(grid.cells):
        row = place(cell)
        for k in grid.ends:
            value, change = estimate(cell, "pass_at", k), estimate(cell, "delta_to_base", k)
            row.append(f"{value.value:.3f}" if value else "invalid")
            row.append("{} ({})".format(*change.parts(3)) if change else "")
        rows.append([*row, str(cell["truncated"]), str(cell["unparsable"])])
    return [*header, "truncated", "unparsable"], rows


def figures(summary: dict[str, Any]) -> dict[str, Figure]:
    """The figures of a study by name: `pass_at_k` and `delta_heatmap`."""
    from forkdiv.figures import figures

    return figures(summary)


def curve_figure(cells: list[Cell], title: str) -> Figure:
    """pass@k of one trial with its band, one line per subset; exact values dotted."""
    from forkdiv.figures import curve_figure

    return curve_figure(cells, title)


def _page(summary: dict[str, Any]) -> str:
    from forkdiv.figures import pictures

    grid = Grid.of(summary)
    lines = headline(summary).splitlines()
    warned = lines.pop(0) if warning(summary) else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        summary=summary,
        warning=warned,
        headline=lines,
        pictures=pictures(grid),
        wide=len(grid.temperatures) > 4,
        table=table(summary),
        losses=_losses(grid),
        exact=_agreement(grid),
        settings=_flat(summary["settings"]),
        percent=grid.percent,
        seeds=grid.seeds,
        has_exact=any(cell.get("exact_pass_at") for cell in grid.cells),
    )


def _losses(grid: Grid) -> dict[str, Any]:
    """Answers that were not correct, by kind, and pass@k had the unread ones been correct."""
    kinds = list(dict.fromkeys(kind for cell in grid.cells for kind in cell.get("lost") or {}))
    header = ["fork density", "temperature", "seed", "subset", "answers", "errors", "truncated"]
    header += ["unparsable", *(LOST_TITLES.get(kind, kind.replace("_", " ")) for kind in kinds)]
    for k in grid.ends:
        header += [f"pass@{k}", "at best"]
    rows = []
    for cell in ordered(grid.cells):
        counts = [cell["n_problems"] * cell["n_samples"]]
        counts += [cell[kind] for kind in ("errors", "truncated", "unparsable")]
        counts += [(cell.get("lost") or {}).get(kind, 0) for kind in kinds]
        row = [*place(cell), *(f"{count:,}" for count in counts)]
        for k in grid.ends:
            value = estimate(cell, "pass_at", k)
            best = (cell.get("best_case_pass_at") or {}).get(str(k))
            row.append(f"{value.value:.3f}" if value else "invalid")
            row.append(f"{best:.3f}" if value and best is not None else "")
        rows.append(row)
    touched = {
        kind: sum(1 for cell in grid.cells if cell[kind])
        for kind in ("errors", "truncated", "unparsable")
    }
    return {"header": header, "rows": rows, "touched": touched, "cells": len(grid.cells)}


def _agreement(grid: Grid) -> dict[str, Any]:
    """Sampled beside exact pass@k, for the cells where both are known."""
    header = ["fork density", "temperature", "seed", "subset"]
    for k in grid.ends:
        header += [f"sampled pass@{k}", f"exact pass@{k}"]
    header += ["largest difference", "agrees"]
    rows, agree, worst = [], 0, 0.0
    for cell in ordered(grid.cells):
        found = cell.get("agreement")
        if not found:
            continue
        agree += bool(found["agrees"])
        worst = max(worst, abs(found["worst_z"]))
        row = place(cell)
        for k in grid.ends:
            value = estimate(cell, "pass_at", k)
            exact = (cell.get("exact_pass_at") or {}).get(str(k))
            row.append(f"{value.value:.3f}" if value else "invalid")
            row.append("" if exact is None else f"{exact:.3f}")
        z = f"{signed(found['worst_z'], 1)} s.e. at k={found['at_k']}"
        rows.append([*row, z, "yes" if found["agrees"] else "NO"])
    return {"header": header, "rows": rows, "agree": agree, "worst": f"{worst:.1f}"}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", str(value)))
    return out
