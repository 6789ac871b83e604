"""A setting: the values of one fine-tuned model along the axes of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import total_ordering

from forkdiv.core.config.axis_names import (
    is_category,
    known_texts,
    phrase,
    stands_alone,
    title,
)
from forkdiv.core.results import Axis, CellName


@total_ordering
@dataclass(frozen=True)
class Setting:
    """`values` along `axes`. Settings with the same axes sort axis by axis: numbers by size,
    categories in the order of the config, an unset value first."""

    axes: tuple[str, ...]
    values: tuple[Axis, ...]

    @classmethod
    def of(cls, cell: CellName, axes: Sequence[str]) -> Setting | None:
        """Returns the setting of a cell; None for the base."""
        return cls(tuple(axes), tuple(cell.axes.get(axis) for axis in axes)) if cell.tuned else None

    def __lt__(self, other: Setting) -> bool:
        return self._rank < other._rank

    @property
    def texts(self) -> tuple[str, ...]:
        """Returns the values as texts, one for each axis."""
        return tuple(_short(value) for value in self.values)

    @property
    def label(self) -> str:
        """Returns a label such as `fork density 0.5, direction 0` or `problem-level`; `tuned`
        without an axis."""
        parts = [
            text if stands_alone(axis) else f"{title(axis)}{': ' * is_category(axis) or ' '}{text}"
            for axis, text in zip(self.axes, self.texts, strict=True)
        ]
        return ", ".join(parts) or "tuned"

    @property
    def phrase(self) -> str:
        """Returns a phrase that follows `fine-tuning`: `at fork density 0.5 and direction 0 with
        problem-level diversity`; empty without an axis."""
        pairs = list(zip(self.axes, self.texts, strict=True))
        at = [f"{title(axis)} {text}" for axis, text in pairs if not is_category(axis)]
        kinds = [phrase(axis, text) for axis, text in pairs if is_category(axis)]
        parts = [
            f"{word} {listed(texts)}" for word, texts in (("at", at), ("with", kinds)) if texts
        ]
        return " ".join(parts)

    def along(self, axes: Sequence[str]) -> Setting:
        """Returns the setting restricted to some of its axes."""
        values = [self.values[self.axes.index(axis)] for axis in axes]
        return Setting(tuple(axes), tuple(values))

    @property
    def _rank(self) -> tuple[tuple[float, str], ...]:
        return tuple(_rank_of(*pair) for pair in zip(self.axes, self.values, strict=True))


def _rank_of(axis: str, value: Axis) -> tuple[float, str]:
    """Sorts numbers by size, texts by their known order, and texts that are not known here (a loss
    of another package) after those, by name. A value that is not set comes first."""
    if value is None:
        return -math.inf, ""
    if not isinstance(value, str):
        return float(value), ""
    known = known_texts(axis)
    return (float(known.index(value)), "") if value in known else (math.inf, value)


def _short(value: Axis) -> str:
    """Returns the shortest text that identifies the value."""
    if value is None:
        return "unset"
    if isinstance(value, str):
        return value
    value = value or 0  # -0.0 equals 0
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def listed(texts: Sequence[str]) -> str:
    """Joins texts as in `a, b and c`."""
    *head, last = texts
    return f"{', '.join(head)} and {last}" if head else last
