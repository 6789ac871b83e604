"""Behaviour at forks: accuracy, entropy and branch probabilities, and the resulting losses."""

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
from forkdiv.report.lines import legend_picture
from forkdiv.report.panels import drawn_subsets, drawn_temperature
from forkdiv.report.plot import Plot, Rows, room_for
from forkdiv.report.section import Content, Legend, Plots, Section, TableView, note, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.svg import Legend as Entries
from forkdiv.report.svg import hover
from forkdiv.report.tables import Table

MAX_MODELS, MAX_FORKS = 9, 6
LABEL_WIDTH = 0.18  # inches for the title of the vertical axis
INK, SOFT, DOT = "#222222", "#8a8a90", "#0072B2"
PARTS: Sequence[
    tuple[str, dict[str, Any]]
] = (  # differ in lightness and hatching, so that they are distinguishable without colour
    ("solved", {"facecolor": "#bfd9ec", "edgecolor": INK, "hatch": ""}),
    ("lost after the fork", {"facecolor": "#ffffff", "edgecolor": INK, "hatch": ""}),
    ("lost at the fork", {"facecolor": "#e08214", "edgecolor": INK, "hatch": "///"}),
)
Fork = tuple[int, bool]  # depth, signed
Values = Callable[[ForkDepth], Sequence[float]]


@dataclass(frozen=True)
class Forks:
    """The cells with fork results, at the temperature nearest 1 that has them. `models` are the
    base (None) and settings."""

    grid: Grid
    temperature: float
    models: Sequence[Setting | None]

    @classmethod
    def of(cls, grid: Grid) -> Forks | None:
        """Returns the fork results; None if no cell has any."""
        with_forks = [cell for cell in grid.cells if cell.forks]
        if not with_forks:
            return None
        settings = {Setting.of(cell, grid.axes) for cell in with_forks}
        models = [model for model in (None, *grid.settings) if model in settings]
        return cls(grid, nearest_1(cell.temperature for cell in with_forks), models)

    @property
    def drawn_models(self) -> list[Setting | None]:
        """Returns the models to draw: the base first, then at most MAX_MODELS in total."""
        base = [model for model in self.models if model is None]
        return [*base, *thinned([model for model in self.models if model], MAX_MODELS - len(base))]

    def at_forks(self, model: Setting | None, subset: str) -> list[AtForks]:
        """Returns the fork results of each seed of a model."""
        cells = self.grid.at(model, self.temperature, subset)
        return [cell.forks for cell in cells if cell.forks]

    def depths(self, model: Setting | None, fork: Fork) -> list[ForkDepth]:
        """Returns the results of each seed of a model at one fork."""
        fork_depths = self._depths(model)
        return [depth for depth in fork_depths if (depth.depth, depth.signed) == fork]

    @property
    def forks(self) -> list[Fork]:
        """Returns the forks of the drawn models, by depth, signed before unsigned."""
        fork_depths = [depth for model in self.drawn_models for depth in self._depths(model)]
        kinds = {(depth.depth, depth.signed) for depth in fork_depths}
        return sorted(kinds, key=lambda fork: (fork[0], not fork[1]))

    def _depths(self, model: Setting | None) -> list[ForkDepth]:
        whole = ALL if ALL in self.grid.subsets else self.grid.subsets[0]
        return [one for forks in self.at_forks(model, whole) for one in forks.depths]


def content(summary: Summary, grid: Grid) -> Content | None:
    fork_results = Forks.of(grid)
    if not fork_results:
        return None
    seed_note = "Small dots are seeds, large dots their mean; a bar is the interval of one seed."
    return [
        paragraph(
            Markup(
                "The probabilities of the branches at each fork, computed by the models instead of "
                "estimated from samples. A model with chance accuracy but low entropy is "
                "<b>overconfident</b>: it chooses the same branch in almost every sample, so more "
                "samples do not help."
            )
        ),
        note(
            "Dashed lines: the accuracy of a random choice, and the entropy of equal branch "
            "probabilities. Shares are the probabilities of the branches from the largest to the "
            "smallest, averaged over the problems.",
            seed_note if len(grid.seeds) > 1 else "",
            drawn_temperature(grid),
        ),
        *Plots.of("forks", plots(fork_results)),
        Legend(loss_legend),
        *Plots.of("where_lost", loss_plots(fork_results), loss_handles()),
        note(
            "“Lost at the fork” is the share that would remain unsolved if all tokens between the "
            "forks were right; “lost after the fork” is the rest."
        ),
        TableView(table(fork_results), "Accuracy and entropy at forks", "forks"),
    ]


def plots(fork_results: Forks) -> Rows:
    """Returns one row for each fork: accuracy, entropy, shares of the branches."""
    several = len({depth for depth, _ in fork_results.forks}) > 1
    return [
        (
            f"{'signed' if fork[1] else 'unsigned'} forks{f', fork {fork[0]}' * several}",
            [
                _plot(fork_results, caption, partial(draw, fork_results, fork), fork, values)
                for caption, values, draw in _COLUMNS
            ],
        )
        for fork in fork_results.forks[:MAX_FORKS]
    ]


def loss_plots(fork_results: Forks) -> Rows:
    """Returns plots of the shares solved, lost at the fork, and lost after it, at the largest k."""
    k = _largest_k(fork_results)
    names = [_name(model) for model in fork_results.drawn_models]
    plots = [
        Plot(
            subset_title(subset),
            _loss_alt_text(fork_results, subset, k),
            partial(_draw_losses, fork_results, subset, k),
            size=(3.5, 1.0 + 0.26 * len(names)),
            left=room_for(names) + LABEL_WIDTH,
        )
        for subset in drawn_subsets(fork_results.grid)
        if any(fork_results.at_forks(model, subset) for model in fork_results.drawn_models)
    ]
    return [(f"Where coverage went, at k={k}", plots)]


def loss_legend() -> Entries:
    """Returns name and picture of every part."""

    def draw(style: dict[str, Any], axes: Axes) -> None:
        axes.axhspan(0.1, 0.9, **style, linewidth=0.6)

    return [
        (name, legend_picture(f"fate-{at}", partial(draw, style)))
        for at, (name, style) in enumerate(PARTS)
    ]


def loss_handles() -> list[Patch]:
    """Returns the handles for a matplotlib legend."""
    return [Patch(**style, linewidth=0.6, label=name) for name, style in PARTS]


def table(fork_results: Forks) -> Table:
    """Returns one row for each fork of every cell with fork results."""
    header = [
        *fork_results.grid.columns,
        *("fork", "kind", "problems", "branches", "valid branch taken", "by chance"),
        *("entropy", "uniform entropy", "no branch", "shares of the branches"),
    ]
    rows = []
    for cell in fork_results.grid.cells:
        for depth in cell.forks.depths if cell.forks else ():
            accuracy = depth.accuracy
            span = f"{accuracy.low:.3f} to {accuracy.high:.3f}"
            rows.append(
                [
                    *fork_results.grid.row(cell),
                    *(str(depth.depth), "signed" if depth.signed else "unsigned"),
                    *(f"{depth.problems:,}", f"{depth.branches:.3g}"),
                    *(f"{accuracy.value:.3f} ({span})", f"{depth.chance:.3f}"),
                    *(f"{value:.3f}" for value in (depth.entropy, depth.uniform, depth.off)),
                    " ".join(f"{share:.2f}" for share in depth.shares),
                ]
            )
    return Table(header, rows)


def _plot(
    fork_results: Forks, caption: str, draw: Callable[[Axes], None], fork: Fork, values_of: Values
) -> Plot:
    names = [_name(model) for model in fork_results.drawn_models]
    size, left = (3.5, 1.0 + 0.26 * len(names)), room_for(names) + LABEL_WIDTH
    parts = []
    for model in fork_results.drawn_models:
        values = [values_of(model) for model in fork_results.depths(model, fork)]
        if values:
            mean = " ".join(f"{model:.2f}" for model in np.mean(np.array(values), axis=0))
            parts.append(f"{_name(model)} {mean}")
    kind = "signed" if fork[1] else "unsigned"
    alt_text = f"{caption}, {kind} fork {fork[0]}. {'; '.join(parts) or 'No valid result'}."
    return Plot(caption, alt_text, draw, size, left)


def _draw_accuracy(fork_results: Forks, fork: Fork, axes: Axes) -> None:
    for y, model in enumerate(fork_results.drawn_models):
        seeds = [depth for depth in fork_results.depths(model, fork) if as_estimate(depth.accuracy)]
        for depth in seeds:
            axes.hlines(y, depth.accuracy.low, depth.accuracy.high, color=DOT, lw=1.2)
        _dots(axes, y, [depth.accuracy.value for depth in seeds], _name(model))
    _reference(axes, fork_results, fork, lambda depth: depth.chance, "chance")
    _name_models(axes, fork_results)
    axes.set(xlim=(-0.03, 1.03), xlabel="probability of a valid branch")


def _draw_entropy(fork_results: Forks, fork: Fork, axes: Axes) -> None:
    for y, model in enumerate(fork_results.drawn_models):
        _dots(axes, y, [depth.entropy for depth in fork_results.depths(model, fork)], _name(model))
    uniform = _reference(axes, fork_results, fork, lambda depth: depth.uniform, "uniform", "right")
    _name_models(axes, fork_results)
    axes.set(xlim=(-0.03 * uniform, 1.08 * uniform), xlabel="entropy over the branches, nats")


def _draw_shares(fork_results: Forks, fork: Fork, axes: Axes) -> None:
    for y, model in enumerate(fork_results.drawn_models):
        seeds = [branch_shares.shares for branch_shares in fork_results.depths(model, fork)]
        if not seeds:
            continue
        longest = max(map(len, seeds))
        shares = np.mean(
            [[*branch_shares, *[0.0] * (longest - len(branch_shares))] for branch_shares in seeds],
            axis=0,
        )
        greys = matplotlib.colormaps["Greys"](np.linspace(0.75, 0.15, longest))
        for share, start, grey in zip(shares, np.cumsum(shares) - shares, greys, strict=True):
            axes.barh(y, share, left=start, height=0.66, color=grey, edgecolor="white", lw=0.8)
            hover(axes, start + share / 2, y, f"{_name(model)}: {share:.3f}")
    _name_models(axes, fork_results)
    axes.set(xlim=(0, 1.0), xlabel="probability, largest branch first")


def _draw_losses(fork_results: Forks, subset: str, k: int, axes: Axes) -> None:
    for y, model in enumerate(fork_results.drawn_models):
        start = 0.0
        for part, (part_name, style) in zip(
            _loss_shares(fork_results, model, subset, k), PARTS, strict=False
        ):
            axes.barh(y, part, left=start, height=0.66, linewidth=0.6, **style)
            if part > 0:
                hover(axes, start + part / 2, y, f"{_name(model)}, {part_name}: {part:.3f}")
            start += part
    _name_models(axes, fork_results)
    axes.set(xlim=(0, 1.0), xlabel="share of the problems")


def _loss_shares(fork_results: Forks, model: Setting | None, subset: str, k: int) -> list[float]:
    """Returns the shares solved, lost after the fork, and lost at the fork; empty if unknown."""
    values = [
        (forks.pass_at[k], forks.fork_pass_at[k]) for forks in fork_results.at_forks(model, subset)
    ]
    if not values:
        return []
    solved, solved_at_forks = np.mean(values, axis=0)
    # up to rounding, a response cannot be correct more often than its forks
    solved_at_forks = max(solved_at_forks, solved)
    return [float(solved), float(solved_at_forks - solved), float(1 - solved_at_forks)]


def _loss_alt_text(fork_results: Forks, subset: str, k: int) -> str:
    texts = []
    for model in fork_results.drawn_models:
        parts = _loss_shares(fork_results, model, subset, k)
        parts_text = [f"{part:.2f} {name}" for part, (name, _) in zip(parts, PARTS, strict=False)]
        texts += [f"{_name(model)}: {', '.join(parts_text)}"] if parts_text else []
    return f"Where coverage went at k={k}, {subset_title(subset)}. {'; '.join(texts)}."


def _largest_k(fork_results: Forks) -> int:
    return max(k for cell in fork_results.grid.cells if cell.forks for k in cell.forks.pass_at)


def _name(model: Setting | None) -> str:
    return model.label if model else "base"


def _dots(axes: Axes, y: int, values: Sequence[float], name: str) -> None:
    """Draws each seed as a small dot and their mean as a large dot."""
    axes.plot(values, [y] * len(values), "o", color=DOT, markersize=3, alpha=0.6)
    if values:
        mean = float(np.mean(values))
        axes.plot([mean], [y], "o", color=DOT, markersize=6)
        hover(axes, mean, y, f"{name}: {mean:.3f}")


def _reference(
    axes: Axes,
    fork_results: Forks,
    fork: Fork,
    value: Callable[[ForkDepth], float],
    label: str,
    side: Literal["left", "right"] = "left",
) -> float:
    """Draws a dashed line at the value of a model without information and returns the value. The
    maximum entropy is at the edge, so its label is on the other `side`."""
    at = float(
        np.mean(
            [
                value(depth)
                for model in fork_results.drawn_models
                for depth in fork_results.depths(model, fork)
            ]
        )
    )
    axes.axvline(at, color=INK, linestyle="--", linewidth=1)
    axes.text(at, -0.55, f" {label} ", ha=side, va="bottom", size=7.5, color=INK)
    return at


def _name_models(axes: Axes, fork_results: Forks) -> None:
    names = [_name(model) for model in fork_results.drawn_models]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylabel("model")
    axes.set_ylim(len(names) - 0.5, -1.15)  # top to bottom, with space for a label
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_axisbelow(True)


_COLUMNS: Sequence[tuple[str, Values, Callable[[Forks, Fork, Axes], None]]] = (
    ("probability of a valid branch", lambda one: [one.accuracy.value], _draw_accuracy),
    ("entropy over the branches, nats", lambda one: [one.entropy], _draw_entropy),
    ("probability of each branch", lambda one: one.shares, _draw_shares),
)


SECTION = Section("Behaviour at forks", content)
