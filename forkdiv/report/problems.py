"""Problems that fine-tuning lost or gained, with a correct and a wrong response of each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from forkdiv.core.results import Cell, ChangedProblem, Shrinkage, Summary
from forkdiv.core.results import Side as Counted
from forkdiv.report.grid import ALL, Grid, nearest_1, shortened
from forkdiv.report.html import rendered
from forkdiv.report.section import Content, Html, Section, paragraph
from forkdiv.report.setting import Setting

MAX_TEXT_CHARS = 4_000  # characters of one text: a response may fill a model's whole context
MAX_MODELS = 12
MAX_PAGE_CHARS = 3_000_000  # characters on one page: a phone must open it


@dataclass(frozen=True)
class Text:
    """The shown part of a text, and the number of hidden characters."""

    shown: str
    hidden: int

    @classmethod
    def of(cls, text: str) -> Text:
        return cls(text[:MAX_TEXT_CHARS], max(len(text) - MAX_TEXT_CHARS, 0))


@dataclass(frozen=True)
class Side:
    """One model on one problem: `samples` are the shown responses, each marked right or wrong."""

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
    """The problems that a model lost, or gained (`kind`): `count` in total, of which `problems` are
    shown, largest change first."""

    kind: str
    k: int
    count: int
    problems: Sequence[Problem]

    @property
    def more(self) -> int:
        return self.count - len(self.problems)


@dataclass(frozen=True)
class Model:
    """A fine-tuned model with its lost and gained problems."""

    name: str
    groups: Sequence[Group]


def content(summary: Summary, grid: Grid) -> Content | None:
    listed = models(grid)
    if not listed:
        return None
    return [
        paragraph(
            Markup(
                "Lost problems are those that the base solves in k tries with a probability above "
                "1/2 and the fine-tuned model does not; gained problems are the opposite case. "
                "The largest differences are first. "
                '<span class="clear">clear</span> marks problems whose two counts differ '
                "significantly (Fisher's exact test, 5% false discovery rate over all problems)."
            ),
            omitted_sentence(grid),
        ),
        Html(partial(rendered, "problems.html.j2", problems=listed)),
    ]


def models(grid: Grid) -> list[Model]:
    """Returns the model of every setting, on all problems, at the temperature nearest 1, for the
    first seed. In total at most MAX_PAGE_CHARS characters are shown."""
    remaining = MAX_PAGE_CHARS
    models = []
    for cell, shrinkage in _shown_cells(grid):
        groups = []
        for kind, listed, number in (
            ("lost", shrinkage.lost, shrinkage.lost_count),
            ("gained", shrinkage.gained, shrinkage.gained_count),
        ):
            shown = []
            for problem in map(_problem, listed):
                remaining -= problem.characters
                shown += [problem] if remaining > 0 else []
            groups.append(Group(kind, shrinkage.at_k, max(number, len(shown)), shown))
        models.append(Model(_model_name(grid, cell), groups))
    return models


def omitted_sentence(grid: Grid) -> str:
    """Returns a sentence about the cells that are not listed; empty if all are."""
    all_cells, shown = _cells_with_shrinkage(grid), _shown_cells(grid)
    if len(shown) == len(all_cells):
        return ""
    return (
        f"Listed here: {len(shown)} of {len(all_cells)} models and temperatures, each at "
        f"temperature {shown[0][0].temperature:g}. The file summary.json has all of them."
    )


def _cells_with_shrinkage(grid: Grid) -> list[tuple[Cell, Shrinkage]]:
    subset = ALL if ALL in grid.subsets else "".join(grid.subsets[:1])
    return [(c, c.shrinkage) for c in grid.cells if c.shrinkage and c.subset == subset]


def _shown_cells(grid: Grid) -> list[tuple[Cell, Shrinkage]]:
    all_cells = _cells_with_shrinkage(grid)
    if not all_cells:
        return []
    temperature = nearest_1(cell.temperature for cell, _ in all_cells)
    first: dict[Setting | None, tuple[Cell, Shrinkage]] = {}
    for cell, shrinkage in all_cells:
        if cell.temperature == temperature:
            first.setdefault(Setting.of(cell, grid.axes), (cell, shrinkage))
    return list(first.values())[:MAX_MODELS]


def _model_name(grid: Grid, cell: Cell) -> str:
    setting = Setting.of(cell, grid.axes)
    seed = f", seed {cell.seed}" if len(grid.seeds) > 1 else ""
    return f"{setting.label if setting else 'base'}{seed}"


def _problem(changed: ChangedProblem) -> Problem:
    sides = [_side("base", changed.base), _side("fine-tuned", changed.tuned)]
    return Problem(shortened(changed.id, 60), Text.of(changed.prompt), changed.clear, sides)


def _side(name: str, counted: Counted) -> Side:
    texts = (("right", counted.right), ("wrong", counted.wrong))
    samples = [(kind, None if text is None else Text.of(text)) for kind, text in texts]
    return Side(name, counted.correct, counted.n, samples)


SECTION = Section("Problems lost and gained", content)
