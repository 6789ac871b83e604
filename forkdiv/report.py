"""The report of a study: its summary in, one HTML page and PNG figures out. Pure: no cluster.

A summary holds one cell per fork density, temperature, seed and subset of the problems, and the
same for the base model. Where a study has several SFT seeds, figures and sentences speak of
their mean; its limits add the spread of the seeds (Student's t) to the interval of one seed.
"""

from __future__ import annotations

import io
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from scipy.special import stdtrit

from forkdiv.artifacts import write_text

Cell = dict[str, Any]

SUBSETS = ("all", "signed", "unsigned")
SUBSET_TITLES = {"all": "all problems", "signed": "signed forks", "unsigned": "unsigned forks"}
LOST_TITLES = {"other_ends": "wrong: another end", "broken_path": "wrong: broken path"}
MARKERS = "os^DvPX*<>hp"
SUBSET_LOOKS = {"all": ("#222222", "o"), "signed": ("#0072B2", "s"), "unsigned": ("#D55E00", "^")}
DIVERGING = matplotlib.colormaps["RdBu"]  # told apart with any colour blindness
STYLE: Any = {  # Any: releases of matplotlib disagree on the type of its keys
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "savefig.dpi": 160,
}


@dataclass(frozen=True)
class Estimate:
    """A value with its limits; `directions` holds the sign that each seed alone makes clear."""

    value: float
    low: float
    high: float
    directions: tuple[int, ...] = ()

    @property
    def direction(self) -> int:
        """1 or -1 where the limits exclude 0, else 0."""
        return _direction(self.low, self.high)

    def overlaps(self, other: Estimate) -> bool:
        return self.low <= other.high and other.low <= self.high

    def digits(self, least: int) -> int:
        """As many as keep a limit that excludes 0 from being printed as 0."""
        nearest = min(abs(self.low), abs(self.high))
        while self.direction and least < 9 and not round(nearest, least):
            least += 1
        return least

    def parts(self, least: int) -> tuple[str, str]:
        """The change and its limits in words."""
        digits = self.digits(least)
        value, low, high = (signed(one, digits) for one in (self.value, self.low, self.high))
        return value, f"{low} to {high}"


@dataclass(frozen=True)
class Grid:
    """The cells of a summary, found by their place; `densities` leaves out the base."""

    cells: Sequence[Cell]
    confidence: float
    densities: tuple[float, ...]
    temperatures: tuple[float, ...]
    subsets: tuple[str, ...]
    seeds: tuple[int, ...]
    ks: tuple[int, ...]

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Grid:
        tuned, cells = summary["cells"], [*summary["base"], *summary["cells"]]
        measured = [
            {int(k) for k in cell["pass_at"] if _entry(cell, "pass_at", int(k))} for cell in cells
        ]
        shared = set.intersection(*kept) if (kept := [ks for ks in measured if ks]) else set()
        present = {cell["subset"] for cell in cells}
        return cls(
            cells=cells,
            confidence=summary["confidence"],
            densities=tuple(sorted({cell["fork_density"] for cell in tuned})),
            temperatures=tuple(sorted({cell["temperature"] for cell in cells})),
            subsets=tuple(subset for subset in SUBSETS if subset in present),
            seeds=tuple(sorted({cell["seed"] for cell in tuned})),
            ks=tuple(sorted(shared)),
        )

    @property
    def ends(self) -> tuple[int, ...]:
        """The smallest and the largest k that every valid cell has; one where they are one."""
        return tuple(sorted({self.ks[0], self.ks[-1]})) if self.ks else ()

    def at(self, density: float | None, temperature: float, subset: str) -> list[Cell]:
        """The cells of one place, one per seed."""
        place = (density, temperature, subset)
        return [
            cell
            for cell in self.cells
            if (cell["fork_density"], cell["temperature"], cell["subset"]) == place
        ]

    def pass_at(
        self, density: float | None, temperature: float, subset: str, k: int
    ) -> Estimate | None:
        """pass@k over the seeds of one place."""
        found = self._over_seeds(self.at(density, temperature, subset), "pass_at", k)
        return found and Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))

    def change(self, density: float, temperature: float, subset: str, k: int) -> Estimate | None:
        """The difference of pass@k to the base over the seeds of one place."""
        return self._over_seeds(self.at(density, temperature, subset), "delta_to_base", k)

    def _over_seeds(self, cells: Iterable[Cell], field: str, k: int) -> Estimate | None:
        found = [entry for cell in cells if (entry := _entry(cell, field, k))]
        if not found:
            return None
        directions = tuple(_direction(one.low, one.high) for one in found)
        if len(found) == 1:
            return Estimate(found[0].value, found[0].low, found[0].high, directions)
        values = np.array([one.value for one in found])
        mean = float(values.mean())
        t = float(stdtrit(len(found) - 1, 0.5 + self.confidence / 2))
        spread = t * float(values.std(ddof=1)) / math.sqrt(len(found))
        # crossed: problems are shared, so their part does not shrink with more seeds
        below = math.hypot(spread, float(np.mean([one.value - one.low for one in found])))
        above = math.hypot(spread, float(np.mean([one.high - one.value for one in found])))
        return Estimate(mean, max(mean - below, -1.0), min(mean + above, 1.0), directions)


def write(summary: dict[str, Any], folder: Path) -> Path:
    """Write `report.html`, one page that needs no network, and `figures/*.png`.

    Each file is written aside and renamed. Returns the path of the page.
    """
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


def headline(summary: dict[str, Any]) -> str:
    """What fine-tuning changed against the base, in up to three sentences, one per line.

    A line before them warns where a cell is invalid or the sampler disagrees with exact
    values. "Raised" and "lowered" are said only where the interval of the change excludes 0.
    """
    grid = Grid.of(summary)
    lines = [warning(summary)]
    places = [
        temperature
        for temperature in grid.temperatures
        if any(
            grid.change(density, temperature, subset, k)
            for density in grid.densities
            for subset in grid.subsets
            for k in grid.ends
        )
    ]
    if not places:
        lines.append("No change to the base can be told: no valid fine-tuned result has a base.")
        return "\n".join(line for line in lines if line)
    near = min(places, key=lambda temperature: (abs(temperature - 1), temperature))
    wanted = [subset for subset in ("all", "unsigned") if subset in grid.subsets]
    for subset in wanted or grid.subsets[:1]:
        lines.append(_at_one_temperature(grid, near, subset))
    over = _over_temperatures(grid, places, (wanted or grid.subsets)[0])
    lines.append(f"{over}; {_about_seeds(grid)}.")
    return "\n".join(line for line in lines if line)


def warning(summary: dict[str, Any]) -> str:
    """One line on invalid cells and failed agreement; empty where there is nothing to warn of."""
    cells = [*summary["base"], *summary["cells"]]
    invalid = [cell for cell in cells if not cell["valid"]]
    apart = [cell for cell in cells if (cell.get("agreement") or {}).get("agrees") is False]
    said = []
    if invalid:
        # the subsets of one trial share its errors: name the trial once
        errors: dict[str, int] = {}
        for cell in invalid:
            errors[_name(cell)] = max(errors.get(_name(cell), 0), cell["errors"])
        trials = [f"{name}: {count} answers without a verdict" for name, count in errors.items()]
        said.append(f"{_of(invalid, cells)} invalid ({_some(trials)})")
    if apart:
        names = [
            f"{_name(cell)}, {cell['subset']}: {abs(cell['agreement']['worst_z']):.1f} standard "
            f"errors at k={cell['agreement']['at_k']}"
            for cell in apart
        ]
        said.append(
            f"{_of(apart, cells)} in disagreement between sampled and exact pass@k ({_some(names)})"
        )
    return f"Do not rely on this report: {'; '.join(said)}." if said else ""


def table(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, base first: one row per density, temperature, seed and subset."""
    grid = Grid.of(summary)
    header = ["fork density", "temperature", "seed", "subset"]
    for k in grid.ends:
        header += [f"pass@{k}", f"change at {k}"]
    rows = []
    for cell in _ordered(grid.cells):
        row = _place(cell)
        for k in grid.ends:
            value, change = _entry(cell, "pass_at", k), _entry(cell, "delta_to_base", k)
            row.append(f"{value.value:.3f}" if value else "invalid")
            row.append("{} ({})".format(*change.parts(3)) if change else "")
        rows.append([*row, str(cell["truncated"]), str(cell["unparsable"])])
    return [*header, "truncated", "unparsable"], rows


def figures(summary: dict[str, Any]) -> dict[str, Figure]:
    """The figures of a study by name: `pass_at_k` and `delta_heatmap`."""
    grid = Grid.of(summary)
    return {"pass_at_k": _curves(grid), "delta_heatmap": _heatmaps(grid)}


def curve_figure(cells: list[Cell], title: str) -> Figure:
    """pass@k of one trial with its band, one line per subset; exact values dotted."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = figure.subplots()
        ks = set()
        for cell in sorted(cells, key=lambda cell: SUBSETS.index(cell["subset"])):
            colour, marker = SUBSET_LOOKS[cell["subset"]]
            points = {int(k): _entry(cell, "pass_at", int(k)) for k in cell["pass_at"]}
            ks |= set(points)
            label = SUBSET_TITLES[cell["subset"]]
            _draw_line(axes, points, {"color": colour, "marker": marker, "label": label})
            _draw_exact(axes, [cell], colour)
        _dress_curves(axes, sorted(ks))
        axes.set_title(title, parse_math=False, wrap=True)
        if cells:
            axes.legend(loc="best", frameon=False)
    return figure


def signed(value: float, digits: int = 3) -> str:
    """A change with its sign; 0 has none."""
    rounded = round(value, digits) or 0.0
    return f"{rounded:{'+' if rounded else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


# -- sentences ---------------------------------------------------------------------------------


def _at_one_temperature(grid: Grid, temperature: float, subset: str) -> str:
    where = f"At temperature {temperature:g}, on {SUBSET_TITLES[subset]},"
    known = {
        density: changes
        for density in grid.densities
        if (changes := _changes(grid, density, temperature, subset))
    }
    if not known:
        return f"{where} there is no valid result to compare."
    ends = sorted({min(known), max(known)})
    text = f"{where} fine-tuning at fork density {ends[0]:g} "
    text += f"{_verbs(known[ends[0]], f'{_percent(grid)} interval ')} against the base"
    if len(ends) == 2:
        text += f"; at density {ends[1]:g} it {_verbs(known[ends[1]])}"
        text += f"; {_between(known[ends[0]], known[ends[1]], ends)}"
    return text + "."


def _changes(grid: Grid, density: float, temperature: float, subset: str) -> dict[int, Estimate]:
    found = {k: grid.change(density, temperature, subset, k) for k in grid.ends}
    return {k: change for k, change in found.items() if change}


def _verbs(changes: dict[int, Estimate], limits: str = "") -> str:
    """`raised pass@1 (...) and lowered pass@64 (...)`; `limits` explains the first bracket."""
    verbs = {1: "raised", -1: "lowered", 0: "did not clearly change"}
    said: dict[str, list[str]] = {}
    for k, change in changes.items():
        alone = set(change.directions)
        agree = len(change.directions) > 1 and len(alone) == 1 and change.direction == 0
        each = f"; each seed alone {verbs[min(alone)]} it" if agree and alone != {0} else ""
        value, span = change.parts(2)
        said.setdefault(verbs[change.direction], []).append(
            f"pass@{k} ({value}, {limits}{span}{each})"
        )
        limits = ""
    joins = {verb: " or " if verb == verbs[0] else " and " for verb in said}
    return " and ".join(f"{verb} {joins[verb].join(what)}" for verb, what in said.items())


def _between(low: dict[int, Estimate], high: dict[int, Estimate], ends: list[float]) -> str:
    """Which of two densities is better; said only where their limits do not overlap."""
    said = []
    for k in sorted(set(low) & set(high)):
        if low[k].overlaps(high[k]):
            said.append(f"pass@{k} does not clearly differ")
        else:
            better = ends[0] if low[k].value > high[k].value else ends[1]
            said.append(f"pass@{k} is higher at density {better:g}")
    return f"between the two densities {' and '.join(said) or 'nothing can be compared'}"


def _over_temperatures(grid: Grid, places: Sequence[float], subset: str) -> str:
    """Whether each change varies with temperature: do its extremes overlap?"""
    if len(places) < 2:
        return f"Only temperature {places[0]:g} was compared, so nothing is said of others"
    said = []
    for k in grid.ends:
        varies, still = [], []
        for density in sorted({grid.densities[0], grid.densities[-1]}):
            found = {t: grid.change(density, t, subset, k) for t in places}
            known = {t: change for t, change in found.items() if change}
            if len(known) < 2:
                continue
            least = min(known, key=lambda t: known[t].value)
            most = max(known, key=lambda t: known[t].value)
            if known[least].overlaps(known[most]):
                still.append(f"{density:g}")
                continue
            shown = [f"{signed(known[t].value, 2)} at {t:g}" for t in sorted((least, most))]
            varies.append(f"{density:g} ({', '.join(shown)})")
        if varies:
            said.append(f"the change in pass@{k} varies clearly at density {' and '.join(varies)}")
        if still:
            said.append(f"that in pass@{k} does not clearly vary at density {' or '.join(still)}")
    where = f"Across temperatures {places[0]:g} to {places[-1]:g}, on {SUBSET_TITLES[subset]},"
    if not said:
        return f"{where} too few results are valid to compare"
    return f"{where} {'; '.join(said)}".replace(", that in", ", the change in", 1)


def _about_seeds(grid: Grid) -> str:
    if len(grid.seeds) == 1:
        return "all of it rests on one SFT seed, and another may differ"
    return f"changes are means over up to {len(grid.seeds)} SFT seeds, limits include their spread"


def _name(cell: Cell) -> str:
    density, temperature, seed, _ = _place(cell)
    density = density if cell["fork_density"] is None else f"density {density}"
    return f"{density}, temperature {temperature}, seed {seed}"


def _of(some: Sequence[Cell], cells: Sequence[Cell]) -> str:
    return f"{len(some)} of {len(cells)} cells {'is' if len(some) == 1 else 'are'}"


def _percent(grid: Grid) -> str:
    return f"{grid.confidence * 100:g}%"


def _place(cell: Cell) -> list[str]:
    density = cell["fork_density"]
    first = "base" if density is None else f"{density:g}"
    return [first, f"{cell['temperature']:g}", str(cell["seed"]), cell["subset"]]


def _ordered(cells: Sequence[Cell]) -> list[Cell]:
    return sorted(
        cells,
        key=lambda cell: (
            -1.0 if cell["fork_density"] is None else cell["fork_density"],
            cell["temperature"],
            cell["seed"],
            SUBSETS.index(cell["subset"]),
        ),
    )


def _some(texts: Sequence[str], most: int = 3) -> str:
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more


def _entry(cell: Cell, field: str, k: int) -> Estimate | None:
    """What one cell holds at k; None where the cell is invalid or has no such value."""
    entry = (cell.get(field) or {}).get(str(k))
    if not cell["valid"] or not entry:
        return None
    value, low, high = entry["value"], entry["low"], entry["high"]
    if any(one is None or not math.isfinite(one) for one in (value, low, high)):
        return None
    return Estimate(value, low, high)


def _direction(low: float, high: float) -> int:
    return (low > 1e-9) - (high < -1e-9)


# -- figures -----------------------------------------------------------------------------------


def _looks(grid: Grid) -> dict[float | None, dict[str, Any]]:
    """Colour, marker and label of each density; the base is black and dashed."""
    looks: dict[float | None, dict[str, Any]] = {
        None: {"color": "#222222", "linestyle": "--", "marker": "x", "label": "base"}
    }
    # the pale end of the map is left out: it cannot be read on white
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(grid.densities)))
    for at, (density, colour) in enumerate(zip(grid.densities, colours, strict=True)):
        marker = MARKERS[at % len(MARKERS)]
        looks[density] = {"color": colour, "marker": marker, "label": f"density {density:g}"}
    return looks


def _curves(grid: Grid) -> Figure:
    rows, columns = max(len(grid.subsets), 1), max(len(grid.temperatures), 1)
    with matplotlib.rc_context(STYLE):
        size = (max(2.6 * columns + 0.4, 4.5), 2.3 * rows + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for row, subset in zip(panels, grid.subsets, strict=False):
            for axes, temperature in zip(row, grid.temperatures, strict=False):
                _draw_curves(axes, grid, temperature, subset)
                axes.set_title(f"{SUBSET_TITLES[subset]}, temperature {temperature:g}")
                axes.label_outer()
        handles = [Line2D([], [], **look) for look in _looks(grid).values()]
        if any(cell.get("exact_pass_at") for cell in grid.cells):
            handles.append(Line2D([], [], color="#555555", ls=":", lw=0.9, label="exact"))
        across = min(len(handles), max(int(size[0] / 1.15), 2))
        figure.legend(handles=handles, loc="outside lower center", ncols=across, frameon=False)
    return figure


def _draw_curves(axes: Axes, grid: Grid, temperature: float, subset: str) -> None:
    """One panel: base and every density, mean over seeds with its band, each seed faint."""
    for density, look in _looks(grid).items():
        cells = [cell for cell in grid.at(density, temperature, subset) if cell["valid"]]
        ks = sorted({int(k) for cell in cells for k in cell["pass_at"]})
        points = {k: grid.pass_at(density, temperature, subset, k) for k in ks}
        _draw_line(axes, points, look)
        for cell in cells if len(cells) > 1 else []:
            each = {k: one.value for k in ks if (one := _entry(cell, "pass_at", k))}
            axes.plot(list(each), list(each.values()), color=look["color"], lw=0.5, alpha=0.5)
        _draw_exact(axes, cells, look["color"])
    _dress_curves(axes, grid.ks)


def _draw_line(axes: Axes, points: Mapping[int, Estimate | None], look: dict[str, Any]) -> None:
    known = {k: point for k, point in sorted(points.items()) if point}
    low, high = ([getattr(point, side) for point in known.values()] for side in ("low", "high"))
    if len(known) == 1:  # a band needs two points
        axes.vlines(list(known), low, high, color=look["color"], linewidth=1)
    axes.fill_between(list(known), low, high, color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(list(known), [point.value for point in known.values()], **look)


def _draw_exact(axes: Axes, cells: Sequence[Cell], colour: Any) -> None:
    exact: dict[int, list[float]] = {}
    for cell in cells:
        for k, value in (cell.get("exact_pass_at") or {}).items():
            exact.setdefault(int(k), []).append(value)
    means = {k: float(np.mean(values)) for k, values in sorted(exact.items())}
    axes.plot(list(means), list(means.values()), color=colour, linestyle=":", linewidth=0.9)


def _dress_curves(axes: Axes, ks: Sequence[int]) -> None:
    axes.set(xlabel="k, samples per problem", ylabel="pass@k", ylim=(-0.03, 1.03))
    if not ks:
        axes.set(xticks=[])
        axes.text(0.5, 0.5, "no valid result", ha="center", transform=axes.transAxes)
        return
    axes.set_xscale("log", base=2)
    axes.set_xlim(ks[0] / 1.25, ks[-1] * 1.25)
    shown = list(ks) if len(ks) <= 6 else [*ks[: -1 : math.ceil(len(ks) / 5)], ks[-1]]
    axes.set_xticks(shown, [str(k) for k in shown])
    axes.minorticks_off()


def _heatmaps(grid: Grid) -> Figure:
    ks = grid.ends
    rows, columns = max(len(grid.subsets), 1), max(len(ks), 1)
    wide, high = _heat_size(grid)
    with matplotlib.rc_context(STYLE):
        size = (max(wide * columns + 0.9, 4.5), high * rows + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for row, subset in zip(panels, grid.subsets, strict=False):
            for axes, k in zip(row, ks, strict=False):
                _draw_heat(axes, grid, subset, k)
                axes.set_title(f"{SUBSET_TITLES[subset]}: pass@{k} against the base")
        if not ks:
            panels[0, 0].text(0.5, 0.5, "no valid result", ha="center")
        bar = figure.colorbar(_scale(grid), ax=panels, shrink=0.8, aspect=40)
        bar.set_label("change to the base (* interval excludes 0)")
        bar.outline.set_visible(False)
        bar.ax.grid(False)
    return figure


def _heat_size(grid: Grid) -> tuple[float, float]:
    columns, rows = len(grid.temperatures), len(grid.densities)
    return max(0.62 * columns + 0.9, 3.4), max(0.32 * rows + 0.9, 1.7)


def _scale(grid: Grid) -> ScalarMappable:
    """One scale for every panel, centred at 0; never so narrow that noise looks large."""
    changes = [
        abs(change.value)
        for cell in grid.cells
        for k in grid.ends
        if (change := _entry(cell, "delta_to_base", k))
    ]
    limit = max([0.1, *changes])
    return ScalarMappable(Normalize(-limit, limit), DIVERGING)


def _draw_heat(axes: Axes, grid: Grid, subset: str, k: int) -> None:
    scale = _scale(grid)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for y, density in enumerate(grid.densities):
        for x, temperature in enumerate(grid.temperatures):
            change = grid.change(density, temperature, subset, k)
            face = scale.to_rgba(np.array([change.value]))[0] if change else (0.93, 0.93, 0.93, 1.0)
            red, green, blue = (float(part) for part in face[:3])
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            box = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, ec="white")
            axes.add_patch(box)
            axes.text(
                x,
                y,
                f"{signed(change.value, 2)}{'*' if change.direction else ''}" if change else "none",
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontweight="bold" if change and change.direction else "normal",
            )
    across, up = len(grid.temperatures), len(grid.densities)
    axes.set(xlabel="temperature", ylabel="fork density")
    axes.set(xlim=(-0.5, max(across, 1) - 0.5), ylim=(-0.5, max(up, 1) - 0.5))
    axes.set_xticks(range(across), [f"{one:g}" for one in grid.temperatures])
    axes.set_yticks(range(up), [f"{one:g}" for one in grid.densities])
    axes.tick_params(length=0)


# -- the page ----------------------------------------------------------------------------------


def _page(summary: dict[str, Any]) -> str:
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
    with matplotlib.rc_context(STYLE):
        pictures = {"curves": _merged(_curve_panels(grid)), "heat": _merged(_heat_panels(grid))}
        legend = _legend(grid)
        bar = _colour_bar(grid)
    return environment.get_template("report.html.j2").render(
        summary=summary,
        warning=warned,
        headline=lines,
        pictures=pictures,
        legend=legend,
        bar=bar,
        wide=len(grid.temperatures) > 4,
        table=table(summary),
        losses=_losses(grid),
        exact=_agreement(grid),
        settings=_flat(summary["settings"]),
        percent=_percent(grid),
        seeds=grid.seeds,
        has_exact=any(cell.get("exact_pass_at") for cell in grid.cells),
    )


Panels = list[tuple[str, list[tuple[str, Markup]]]]


def _curve_panels(grid: Grid) -> Panels:
    """Per subset, one small picture per temperature, so that a phone can stack them."""
    out: Panels = []
    for s, subset in enumerate(grid.subsets):
        row = []
        for t, temperature in enumerate(grid.temperatures):
            figure = Figure(figsize=(3.5, 2.7), layout="constrained")
            _draw_curves(figure.subplots(), grid, temperature, subset)
            said = [
                f"{look['label']} {', '.join(values)}"
                for density, look in _looks(grid).items()
                if (values := _spoken(grid, density, temperature, subset))
            ]
            label = (
                f"pass@k against k on {SUBSET_TITLES[subset]} at temperature {temperature:g}. "
                f"{'; '.join(said) or 'No valid result'}."
            )
            row.append((f"temperature {temperature:g}", _svg(figure, f"curve-{s}-{t}", label)))
        out.append((SUBSET_TITLES[subset], row))
    return out


def _merged(panels: Panels) -> Panels:
    """Rows of one picture each become one row."""
    if len(panels) < 2 or any(len(row) != 1 for _, row in panels):
        return panels
    return [(panels[0][1][0][0], [(title, row[0][1]) for title, row in panels])]


def _spoken(grid: Grid, density: float | None, temperature: float, subset: str) -> list[str]:
    found = {k: grid.pass_at(density, temperature, subset, k) for k in grid.ends}
    return [f"{one.value:.2f} at k={k}" for k, one in found.items() if one]


def _heat_panels(grid: Grid) -> Panels:
    out: Panels = []
    for s, subset in enumerate(grid.subsets):
        row = []
        for k in grid.ends:
            figure = Figure(figsize=_heat_size(grid), layout="constrained")
            _draw_heat(figure.subplots(), grid, subset, k)
            said = [
                f"density {density:g} at temperature {temperature:g}: {signed(change.value, 2)}"
                for density in grid.densities
                for temperature in grid.temperatures
                if (change := grid.change(density, temperature, subset, k))
            ]
            label = (
                f"Change of pass@{k} to the base on {SUBSET_TITLES[subset]}. "
                f"{'; '.join(said) or 'No valid result'}."
            )
            row.append((f"change in pass@{k}", _svg(figure, f"heat-{s}-{k}", label)))
        out.append((SUBSET_TITLES[subset], row))
    return out


def _legend(grid: Grid) -> list[tuple[str, Markup]]:
    out = []
    for at, look in enumerate(_looks(grid).values()):
        figure = Figure(figsize=(0.5, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **look)
        out.append((look["label"], _svg(figure, f"legend-{at}", "")))
    return out


def _colour_bar(grid: Grid) -> Markup:
    figure = Figure(figsize=(3.4, 0.55), layout="constrained")
    bar = figure.colorbar(_scale(grid), cax=figure.subplots(), orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    return _svg(figure, "colours", "Colour scale: red below the base, white equal, blue above")


def _svg(figure: Figure, prefix: str, label: str) -> Markup:
    """The figure as SVG to stand in a page beside others: own ids, scaled by its viewBox."""
    buffer = io.StringIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix}
    with matplotlib.rc_context(style):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box, "matplotlib wrote an SVG without a viewBox"
    body = text[text.index(">", box.end()) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # would rule the whole page
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    spoken = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    # narrower than its points, the text of a wide figure could not be read: it scrolls instead
    least = f"min-width: {float(box.group(1).split()[2]):.0f}px"
    return Markup(f'<svg viewBox="{box.group(1)}" style="{least}" {spoken}>{body.strip()}')


def _losses(grid: Grid) -> dict[str, Any]:
    """Answers that were not correct, by kind, and pass@k had the unread ones been correct."""
    kinds = list(dict.fromkeys(kind for cell in grid.cells for kind in cell.get("lost") or {}))
    header = ["fork density", "temperature", "seed", "subset", "answers", "errors", "truncated"]
    header += ["unparsable", *(LOST_TITLES.get(kind, kind.replace("_", " ")) for kind in kinds)]
    for k in grid.ends:
        header += [f"pass@{k}", "at best"]
    rows = []
    for cell in _ordered(grid.cells):
        counts = [cell["n_problems"] * cell["n_samples"]]
        counts += [cell[kind] for kind in ("errors", "truncated", "unparsable")]
        counts += [(cell.get("lost") or {}).get(kind, 0) for kind in kinds]
        row = [*_place(cell), *(f"{count:,}" for count in counts)]
        for k in grid.ends:
            value = _entry(cell, "pass_at", k)
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
    for cell in _ordered(grid.cells):
        found = cell.get("agreement")
        if not found:
            continue
        agree += bool(found["agrees"])
        worst = max(worst, abs(found["worst_z"]))
        row = _place(cell)
        for k in grid.ends:
            value, exact = _entry(cell, "pass_at", k), (cell.get("exact_pass_at") or {}).get(str(k))
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
