"""Problems that fine-tuning lost or gained, with a right and a wrong answer of each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from forkdiv.core.results import Cell, ChangedProblem, Shrinkage, Summary
from forkdiv.core.results import Side as Counted
from forkdiv.report.grid import ALL, Grid, cut, nearest_1
from forkdiv.report.html import rendered
from forkdiv.report.section import Content, Html, Section, paragraph
from forkdiv.report.setting import Setting

MOST_TEXT = 4_000  # characters of one text: a response may fill a model's whole context
MOST_GROUPS = 12
MOST_OF_ALL = 3_000_000  # characters on one page: a phone must open it


@dataclass(frozen=True)
class Text:
    """What is shown of a text, and how many characters of it are not."""

    shown: str
    hidden: int

    @classmethod
    def of(cls, text: str) -> Text:
        return cls(text[:MOST_TEXT], max(len(text) - MOST_TEXT, 0))


@dataclass(frozen=True)
class Side:
    """One model on one problem: `samples` names each shown answer as right or wrong."""

    name: str
    correct: int
    n: int
    samples: Sequence[tuple[str, Text | None]]


@dataclass(frozen=True)
class Problem:
    name: str
    prompt: Text
    clear: bool
    sides: Sequence[Side]

    @property
    def characters(self) -> int:
        texts = [text for side in self.sides for _, text in side.samples if text]
        return len(self.prompt.shown) + sum(len(text.shown) for text in texts)


@dataclass(frozen=True)
class Group:
    """The problems that a model lost, or gained, as `what` says: `count` of them, of which
    `problems` are shown, the worst first."""

    what: str
    k: int
    count: int
    problems: Sequence[Problem]

    @property
    def more(self) -> int:
        return self.count - len(self.problems)


@dataclass(frozen=True)
class Model:
    """A fine-tuned model with what it lost and what it gained."""

    name: str
    groups: Sequence[Group]


def content(summary: Summary, grid: Grid) -> Content | None:
    listed = models(grid)
    if not listed:
        return None
    return [
        paragraph(
            Markup(
                "Problems that the base solves more often than not in k tries and the fine-tuned "
                "model does not, and the other way round; the largest differences first. "
                '<span class="clear">clear</span> marks those whose two counts differ by more than '
                "chance allows, even among so many problems (Fisher's exact test, 5% false "
                "discoveries)."
            ),
            left_out(grid),
        ),
        Html(partial(rendered, "problems.html.j2", problems=listed)),
    ]


def models(grid: Grid) -> list[Model]:
    """Every setting's model, on all problems, at the temperature nearest 1, of the first seed.
    Together they show at most MOST_OF_ALL characters."""
    left = MOST_OF_ALL
    made = []
    for cell, found in _cells(grid):
        groups = []
        for what, listed, number in (
            ("lost", found.lost, found.lost_count),
            ("gained", found.gained, found.gained_count),
        ):
            kept = []
            for one in map(_problem, listed):
                left -= one.characters
                kept += [one] if left > 0 else []
            groups.append(Group(what, found.at_k, max(number, len(kept)), kept))
        made.append(Model(_named(grid, cell), groups))
    return made


def left_out(grid: Grid) -> str:
    """Which cells' problems are not listed, in a sentence; empty where all are."""
    told, shown = _known(grid), _cells(grid)
    if len(shown) == len(told):
        return ""
    return (
        f"Listed here: {len(shown)} of {len(told)} models and temperatures, each at temperature "
        f"{shown[0][0].temperature:g}. The summary beside this page has them all."
    )


def _known(grid: Grid) -> list[tuple[Cell, Shrinkage]]:
    whole = ALL if ALL in grid.subsets else "".join(grid.subsets[:1])
    return [(c, c.shrinkage) for c in grid.cells if c.shrinkage and c.subset == whole]


def _cells(grid: Grid) -> list[tuple[Cell, Shrinkage]]:
    known = _known(grid)
    if not known:
        return []
    near = nearest_1(cell.temperature for cell, _ in known)
    first: dict[Setting | None, tuple[Cell, Shrinkage]] = {}
    for cell, shrinkage in known:
        if cell.temperature == near:
            first.setdefault(Setting.of(cell, grid.axes), (cell, shrinkage))
    return list(first.values())[:MOST_GROUPS]


def _named(grid: Grid, cell: Cell) -> str:
    setting = Setting.of(cell, grid.axes)
    seed = f", seed {cell.seed}" if len(grid.seeds) > 1 else ""
    return f"{setting.label if setting else 'base'}{seed}"


def _problem(changed: ChangedProblem) -> Problem:
    sides = [_side("base", changed.base), _side("fine-tuned", changed.tuned)]
    return Problem(cut(changed.id, 60), Text.of(changed.prompt), changed.clear, sides)


def _side(name: str, counted: Counted) -> Side:
    texts = (("right", counted.right), ("wrong", counted.wrong))
    samples = [(kind, None if text is None else Text.of(text)) for kind, text in texts]
    return Side(name, counted.correct, counted.n, samples)


SECTION = Section("Problems gained and lost", content)
