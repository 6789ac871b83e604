"""At the forks: how often a model takes a valid branch, how sure it is, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from forkdiv.core.results import AtForks, ForkDepth, Summary
from forkdiv.report.grid import ALL, Grid, as_estimate, nearest_1, subset_title, thinned
from forkdiv.report.lines import drawn_key
from forkdiv.report.panels import drawn_subsets, only_near
from forkdiv.report.plot import Plot, Rows, room_for
from forkdiv.report.section import Content, Legend, Plots, Section, TableView, note, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.svg import Legend as Entries
from forkdiv.report.svg import hover
from forkdiv.report.tables import Table

MOST_MODELS, MOST_FORKS = 9, 6
LABEL_ROOM = 0.18  # inches for the name of the vertical axis
INK, SOFT, DOT = "#222222", "#8a8a90", "#0072B2"
PARTS: Sequence[
    tuple[str, dict[str, Any]]
] = (  # told apart by lightness and by hatching, so that no colour is needed
    ("solved", {"facecolor": "#bfd9ec", "edgecolor": INK, "hatch": ""}),
    ("lost after the fork", {"facecolor": "#ffffff", "edgecolor": INK, "hatch": ""}),
    ("lost at the fork", {"facecolor": "#e08214", "edgecolor": INK, "hatch": "///"}),
)
Fork = tuple[int, bool]  # depth, signed
Values = Callable[[ForkDepth], Sequence[float]]


@dataclass(frozen=True)
class Forks:
    """The cells that know their forks, at the temperature nearest 1 of all that do. `models` are
    the base (None) and settings."""

    grid: Grid
    temperature: float
    models: Sequence[Setting | None]

    @classmethod
    def of(cls, grid: Grid) -> Forks | None:
        """None where no cell knows its forks."""
        told = [cell for cell in grid.cells if cell.forks]
        if not told:
            return None
        settings = {Setting.of(cell, grid.axes) for cell in told}
        models = [one for one in (None, *grid.settings) if one in settings]
        return cls(grid, nearest_1(cell.temperature for cell in told), models)

    @property
    def drawn(self) -> list[Setting | None]:
        """The base first; settings beyond MOST_MODELS are thinned."""
        base = [one for one in self.models if one is None]
        return [*base, *thinned([one for one in self.models if one], MOST_MODELS - len(base))]

    def at_forks(self, model: Setting | None, subset: str) -> list[AtForks]:
        """Of each seed of a model."""
        cells = self.grid.at(model, self.temperature, subset)
        return [cell.forks for cell in cells if cell.forks]

    def depths(self, model: Setting | None, fork: Fork) -> list[ForkDepth]:
        """What each seed of a model does at one fork."""
        told = self._depths(model)
        return [one for one in told if (one.depth, one.signed) == fork]

    @property
    def forks(self) -> list[Fork]:
        """Those of the drawn models, signed before unsigned, the first fork first."""
        told = [one for model in self.drawn for one in self._depths(model)]
        found = {(one.depth, one.signed) for one in told}
        return sorted(found, key=lambda fork: (fork[0], not fork[1]))

    def _depths(self, model: Setting | None) -> list[ForkDepth]:
        whole = ALL if ALL in self.grid.subsets else self.grid.subsets[0]
        return [one for forks in self.at_forks(model, whole) for one in forks.depths]


def content(summary: Summary, grid: Grid) -> Content | None:
    found = Forks.of(grid)
    if not found:
        return None
    over_seeds = "Small dots are seeds, large ones their mean; a bar is the interval of one seed."
    return [
        paragraph(
            Markup(
                "What the models do where a response must choose a branch, read from their "
                "probabilities instead of from samples. A model that is right no more often than "
                "chance but has little entropy left is <b>sure without reason</b>: it tries the "
                "same branch again and again, and more samples do not help."
            )
        ),
        note(
            "Dashed lines: the accuracy of choosing blindly, and the entropy of giving every "
            "branch the same probability. Shares are the branches' probabilities from the largest "
            "to the smallest, averaged over the problems.",
            over_seeds if len(grid.seeds) > 1 else "",
            only_near(grid),
        ),
        *Plots.of("forks", plots(found)),
        Legend(fate_legend),
        *Plots.of("where_lost", fate_plots(found), fate_handles()),
        note(
            "“Lost at the fork” is what would stay unsolved even if everything between the forks "
            "went right; “lost after the fork” is the rest."
        ),
        TableView(table(found), "The forks in numbers", "forks"),
    ]


def plots(found: Forks) -> Rows:
    """One row per fork: accuracy, entropy, shares of the branches."""
    several = len({depth for depth, _ in found.forks}) > 1
    return [
        (
            f"{'signed' if fork[1] else 'unsigned'} forks{f', fork {fork[0]}' * several}",
            [
                _plot(found, caption, partial(draw, found, fork), fork, values)
                for caption, values, draw in _COLUMNS
            ],
        )
        for fork in found.forks[:MOST_FORKS]
    ]


def fate_plots(found: Forks) -> Rows:
    """Of all problems: solved, lost at the fork, lost after it; at the largest k."""
    k = _largest(found)
    names = [_name(one) for one in found.drawn]
    plots = [
        Plot(
            subset_title(subset),
            _fate_spoken(found, subset, k),
            partial(_draw_fate, found, subset, k),
            size=(3.5, 1.0 + 0.26 * len(names)),
            left=room_for(names) + LABEL_ROOM,
        )
        for subset in drawn_subsets(found.grid)
        if any(found.at_forks(one, subset) for one in found.drawn)
    ]
    return [(f"Where coverage went, at k={k}", plots)]


def fate_legend() -> Entries:
    """Name and picture of every part."""

    def draw(style: dict[str, Any], axes: Axes) -> None:
        axes.axhspan(0.1, 0.9, **style, linewidth=0.6)

    return [
        (name, drawn_key(f"fate-{at}", partial(draw, style)))
        for at, (name, style) in enumerate(PARTS)
    ]


def fate_handles() -> list[Patch]:
    """The same for a legend of matplotlib's."""
    return [Patch(**style, linewidth=0.6, label=name) for name, style in PARTS]


def table(found: Forks) -> Table:
    """Every cell that knows its forks, fork by fork."""
    header = [
        *found.grid.columns,
        *("fork", "kind", "problems", "branches", "valid branch taken", "by chance"),
        *("entropy", "if all alike", "none of the branches", "shares of the branches"),
    ]
    rows = []
    for cell in found.grid.cells:
        for one in cell.forks.depths if cell.forks else ():
            accuracy = one.accuracy
            span = f"{accuracy.low:.3f} to {accuracy.high:.3f}"
            rows.append(
                [
                    *found.grid.row(cell),
                    *(str(one.depth), "signed" if one.signed else "unsigned"),
                    *(f"{one.problems:,}", f"{one.branches:.3g}"),
                    *(f"{accuracy.value:.3f} ({span})", f"{one.chance:.3f}"),
                    *(f"{value:.3f}" for value in (one.entropy, one.uniform, one.off)),
                    " ".join(f"{share:.2f}" for share in one.shares),
                ]
            )
    return Table(header, rows)


def _plot(
    found: Forks, caption: str, draw: Callable[[Axes], None], fork: Fork, values_of: Values
) -> Plot:
    names = [_name(one) for one in found.drawn]
    size, left = (3.5, 1.0 + 0.26 * len(names)), room_for(names) + LABEL_ROOM
    said = []
    for model in found.drawn:
        values = [values_of(one) for one in found.depths(model, fork)]
        if values:
            mean = " ".join(f"{one:.2f}" for one in np.mean(np.array(values), axis=0))
            said.append(f"{_name(model)} {mean}")
    kind = "signed" if fork[1] else "unsigned"
    spoken = f"{caption}, {kind} fork {fork[0]}. {'; '.join(said) or 'No valid result'}."
    return Plot(caption, spoken, draw, size, left)


def _draw_accuracy(found: Forks, fork: Fork, axes: Axes) -> None:
    for y, model in enumerate(found.drawn):
        seeds = [one for one in found.depths(model, fork) if as_estimate(one.accuracy)]
        for one in seeds:
            axes.hlines(y, one.accuracy.low, one.accuracy.high, color=DOT, lw=1.2)
        _dots(axes, y, [one.accuracy.value for one in seeds], _name(model))
    _reference(axes, found, fork, lambda one: one.chance, "chance")
    _name_models(axes, found)
    axes.set(xlim=(-0.03, 1.03), xlabel="probability of a valid branch")


def _draw_entropy(found: Forks, fork: Fork, axes: Axes) -> None:
    for y, model in enumerate(found.drawn):
        _dots(axes, y, [one.entropy for one in found.depths(model, fork)], _name(model))
    most = _reference(axes, found, fork, lambda one: one.uniform, "all alike", "right")
    _name_models(axes, found)
    axes.set(xlim=(-0.03 * most, 1.08 * most), xlabel="entropy over the branches, nats")


def _draw_shares(found: Forks, fork: Fork, axes: Axes) -> None:
    for y, model in enumerate(found.drawn):
        seeds = [one.shares for one in found.depths(model, fork)]
        if not seeds:
            continue
        longest = max(map(len, seeds))
        shares = np.mean([[*one, *[0.0] * (longest - len(one))] for one in seeds], axis=0)
        greys = matplotlib.colormaps["Greys"](np.linspace(0.75, 0.15, longest))
        for share, start, grey in zip(shares, np.cumsum(shares) - shares, greys, strict=True):
            axes.barh(y, share, left=start, height=0.66, color=grey, edgecolor="white", lw=0.8)
            hover(axes, start + share / 2, y, f"{_name(model)}: {share:.3f}")
    _name_models(axes, found)
    axes.set(xlim=(0, 1.0), xlabel="probability, largest branch first")


def _draw_fate(found: Forks, subset: str, k: int, axes: Axes) -> None:
    for y, model in enumerate(found.drawn):
        start = 0.0
        for part, (what, style) in zip(_fate(found, model, subset, k), PARTS, strict=False):
            axes.barh(y, part, left=start, height=0.66, linewidth=0.6, **style)
            if part > 0:
                hover(axes, start + part / 2, y, f"{_name(model)}, {what}: {part:.3f}")
            start += part
    _name_models(axes, found)
    axes.set(xlim=(0, 1.0), xlabel="share of the problems")


def _fate(found: Forks, model: Setting | None, subset: str, k: int) -> list[float]:
    """Shares solved, lost after the fork and lost at it; empty where nothing is known."""
    known = [(forks.pass_at[k], forks.fork_pass_at[k]) for forks in found.at_forks(model, subset)]
    if not known:
        return []
    solved, right = np.mean(known, axis=0)
    # rounding apart, a response cannot be correct more often than its forks are
    right = max(right, solved)
    return [float(solved), float(right - solved), float(1 - right)]


def _fate_spoken(found: Forks, subset: str, k: int) -> str:
    said = []
    for model in found.drawn:
        parts = _fate(found, model, subset, k)
        words = [f"{part:.2f} {name}" for part, (name, _) in zip(parts, PARTS, strict=False)]
        said += [f"{_name(model)}: {', '.join(words)}"] if words else []
    return f"Where coverage went at k={k}, {subset_title(subset)}. {'; '.join(said)}."


def _largest(found: Forks) -> int:
    return max(k for cell in found.grid.cells if cell.forks for k in cell.forks.pass_at)


def _name(model: Setting | None) -> str:
    return model.label if model else "base"


def _dots(axes: Axes, y: int, values: Sequence[float], name: str) -> None:
    """Each seed as a small dot, their mean as a large one."""
    axes.plot(values, [y] * len(values), "o", color=DOT, markersize=3, alpha=0.6)
    if values:
        mean = float(np.mean(values))
        axes.plot([mean], [y], "o", color=DOT, markersize=6)
        hover(axes, mean, y, f"{name}: {mean:.3f}")


def _reference(
    axes: Axes,
    found: Forks,
    fork: Fork,
    value: Callable[[ForkDepth], float],
    label: str,
    side: Literal["left", "right"] = "left",
) -> float:
    """A dashed line for what a model that knows nothing would have; returns where. The highest
    entropy stands at the edge, so its label goes to the other `side`."""
    at = float(np.mean([value(one) for model in found.drawn for one in found.depths(model, fork)]))
    axes.axvline(at, color=INK, linestyle="--", linewidth=1)
    axes.text(at, -0.55, f" {label} ", ha=side, va="bottom", size=7.5, color=INK)
    return at


def _name_models(axes: Axes, found: Forks) -> None:
    names = [_name(one) for one in found.drawn]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylabel("model")
    axes.set_ylim(len(names) - 0.5, -1.15)  # from the top down, with room for a word
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_axisbelow(True)


_COLUMNS: Sequence[tuple[str, Values, Callable[[Forks, Fork, Axes], None]]] = (
    ("probability of a valid branch", lambda one: [one.accuracy.value], _draw_accuracy),
    ("entropy over the branches, nats", lambda one: [one.entropy], _draw_entropy),
    ("probability of each branch", lambda one: one.shares, _draw_shares),
)


SECTION = Section("At the forks", content)
