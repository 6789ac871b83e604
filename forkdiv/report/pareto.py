"""Section "One try against many": pass@k at the smallest against the largest k, with the Pareto
front of the settings that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes

from forkdiv.core.config.axis_names import title
from forkdiv.core.results import Summary
from forkdiv.report.grid import Estimate, Grid, decoders_of, subset_title, with_decoder
from forkdiv.report.lines import number
from forkdiv.report.plot import Plot
from forkdiv.report.section import Content, Plots, Section, TableView, note, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.svg import hover
from forkdiv.report.tables import FirstRows, Table

# fewer fine-tuned models, or ways of measuring them, are compared by the other sections
LEAST_MODELS, LEAST_WAYS = 3, 4
FRONT, BASE, OTHER = "#0b5fa5", "#222222", "#9a9a9a"
MOST_NUMBERED = 12
ON_FRONT, CLEARLY_BELOW = "on the front", "clearly below"


@dataclass(frozen=True)
class Place:
    """One setting with one way of measuring: its pass@k at the smallest and at the largest k."""

    setting: Setting | None  # None: the base
    measured: str | None
    temperature: float
    few: Estimate
    many: Estimate

    def is_below(self, other: Place) -> bool:
        """Whether the other has at least the same in both, and more in one."""
        pairs = [(self.few.value, other.few.value), (self.many.value, other.many.value)]
        return all(own <= its for own, its in pairs) and any(own < its for own, its in pairs)

    def is_clearly_below(self, other: Place) -> bool:
        """Whether the other has more in both, with limits that do not overlap."""
        return self.few.high < other.few.low and self.many.high < other.many.low


def content(summary: Summary, grid: Grid) -> Content | None:
    if len(grid.ends) < 2:
        return None
    found = places(summary, grid)
    tuned = [place for place in found if place.setting]
    ways = {(place.measured, place.temperature) for place in tuned}
    if len({place.setting for place in tuned}) < LEAST_MODELS and len(ways) < LEAST_WAYS:
        return None
    table = front_table(found, grid)
    front = len(pareto_front(found))
    below = sum(1 for place in found if _standing(place, found) == CLEARLY_BELOW)
    first, last = grid.ends
    return [
        paragraph(
            f"Which setting is best depends on the number of tries. {front} of {len(found)} "
            f"settings, the base among them, are on the Pareto front: no other has both a higher "
            f"pass@{first} and a higher pass@{last}, on {subset_title(grid.subsets[0])}. "
            f"{below} {'is' if below == 1 else 'are'} clearly below another one in both."
        ),
        *Plots.of("pareto", [("", [plot(found, grid)])], layout="wide"),
        TableView(table, f"pass@{first} and pass@{last} of every setting", "pareto"),
        note(
            f"In brackets and as lines: {grid.percent} limits of each value. The front is that of "
            "the values: a setting next to it may be as good. “Clearly below” means that the "
            "limits of both values lie below those of another setting."
        ),
    ]


def places(summary: Summary, grid: Grid) -> list[Place]:
    """Returns the settings that have both values, in every way of measuring; those on the front
    first, by pass@k at the smallest k."""
    found = []
    for name in decoders_of(summary):
        measured = Grid.of(with_decoder(summary, name))
        for setting in (None, *measured.settings):
            for temperature in measured.temperatures:
                few, many = (
                    measured.pass_at(setting, temperature, grid.subsets[0], k) for k in grid.ends
                )
                if few and many:
                    found.append(Place(setting, name, temperature, few, many))
    front = pareto_front(found)
    return sorted(found, key=lambda place: (place not in front, place.few.value, place.many.value))


def pareto_front(found: Sequence[Place]) -> list[Place]:
    """Returns the settings of which no other is as good in both values and better in one."""
    return [place for place in found if not any(place.is_below(other) for other in found)]


def front_table(found: Sequence[Place], grid: Grid) -> Table:
    """Returns the values of every setting, with its number in the plot."""
    ways = {place.measured for place in found}
    header = ["number", *(map(title, grid.axes) if grid.axes else ["model"])]
    header += [*(["measured with"] * (len(ways) > 1)), "temperature"]
    header += [*(f"pass@{k}" for k in grid.ends), "Pareto front"]
    rows = []
    for at, place in enumerate(found, 1):
        texts = list(place.setting.texts or ["tuned"]) if place.setting else ["base"]
        texts += [""] * (max(len(grid.axes), 1) - len(texts))
        way = [str(place.measured)] * (len(ways) > 1)
        values = [_with_limits(value) for value in (place.few, place.many)]
        standing = _standing(place, found)
        rows.append([str(at), *texts, *way, f"{place.temperature:g}", *values, standing])
    on_front = [row for row in rows if row[-1] == ON_FRONT]
    return Table(header, rows, first=FirstRows(header, on_front, ": the Pareto front"))


def plot(found: Sequence[Place], grid: Grid) -> Plot:
    first, last = grid.ends
    front = len(pareto_front(found))
    text = "; ".join(
        f"{_name(place)}: pass@{first} {number(place.few.value)}, pass@{last} "
        f"{number(place.many.value)}"
        for place in found[:front]
    )
    return Plot(
        caption=f"pass@{last} against pass@{first}; numbers as in the table",
        alt_text=f"pass@{last} against pass@{first}. On the Pareto front: {text}.",
        draw=partial(_draw, found, grid),
        size=(5.6, 3.9),
    )


def _draw(found: Sequence[Place], grid: Grid, axes: Axes) -> None:
    first, last = grid.ends
    front = pareto_front(found)
    edge = sorted((place.few.value, place.many.value) for place in front)
    axes.step(*zip(*edge, strict=True), where="pre", color=FRONT, linewidth=0.9, alpha=0.7)
    for at, place in enumerate(found, 1):
        x, y = place.few, place.many
        colour = BASE if place.setting is None else FRONT if place in front else OTHER
        axes.hlines(y.value, x.low, x.high, color=colour, linewidth=0.7, alpha=0.6)
        axes.vlines(x.value, y.low, y.high, color=colour, linewidth=0.7, alpha=0.6)
        marker = "x" if place.setting is None else "o"
        axes.plot([x.value], [y.value], marker, color=colour)
        if place in front and at <= MOST_NUMBERED:
            axes.annotate(str(at), (x.value, y.value), xytext=(4, 4), textcoords="offset points")
        values = f"pass@{first} {_with_limits(x)}, pass@{last} {_with_limits(y)}"
        hover(axes, x.value, y.value, f"{_name(place)}: {values}")
    axes.set(xlabel=f"pass@{first}", ylabel=f"pass@{last}")


def _standing(place: Place, found: Sequence[Place]) -> str:
    if not any(place.is_below(other) for other in found):
        return ON_FRONT
    return CLEARLY_BELOW if any(place.is_clearly_below(other) for other in found) else ""


def _name(place: Place) -> str:
    model = place.setting.label if place.setting else "base"
    way = f", {place.measured}" if place.measured else ""
    return f"{model}{way}, temperature {place.temperature:g}"


def _with_limits(value: Estimate) -> str:
    return f"{number(value.value)} ({number(value.low)} to {number(value.high)})"


SECTION = Section("One try against many", content)
