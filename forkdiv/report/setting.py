"""A setting: how one model was fine-tuned, along the axes a study varies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import total_ordering
from typing import Literal, get_args, get_origin

from forkdiv.core.config.open_list import OpenList
from forkdiv.core.config.study import AXES, DATA_AXES, DatasetConfig, SftConfig, StudyConfig
from forkdiv.core.results import Axis, CellName


def _stage(axis: str) -> type[DatasetConfig | SftConfig | StudyConfig]:
    """The config that an axis is a setting of."""
    if axis in DATA_AXES:
        return DatasetConfig
    return SftConfig if axis in SftConfig.model_fields else StudyConfig


def _known_texts(axis: str) -> tuple[str, ...]:
    """The texts that an axis may have, in their order; empty for an axis of numbers."""
    field = _stage(axis).model_fields[axis]
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    names = next((item for item in field.metadata if isinstance(item, OpenList)), None)
    return names.names() if names else ()


CATEGORIES: dict[str, tuple[str, ...]] = {
    axis: texts for axis in AXES if (texts := _known_texts(axis))
}
_SYNTHESIS = {
    "none": "no synthesis",
    "enumerator": "synthesis from the enumerator",
    "samples": "synthesis from samples",
}


@total_ordering
@dataclass(frozen=True)
class Setting:
    """`values` along `axes`. Settings of the same axes sort axis by axis: numbers by size, texts
    in the order in which the config lists them, an unset value first."""

    axes: tuple[str, ...]
    values: tuple[Axis, ...]

    @classmethod
    def of(cls, cell: CellName, axes: Sequence[str]) -> Setting | None:
        """The setting of a cell; None for the base, which has none."""
        return cls(tuple(axes), tuple(cell.axes[axis] for axis in axes)) if cell.tuned else None

    def __lt__(self, other: Setting) -> bool:
        return self._rank < other._rank

    @property
    def texts(self) -> tuple[str, ...]:
        """The values alone, one text per axis."""
        return tuple(_short(value) for value in self.values)

    @property
    def label(self) -> str:
        """As in `fork density 0.5, direction 0` or `problem-level`; `tuned` without any axis."""
        parts = [
            text
            if axis == "structure"
            else f"{title(axis)}{': ' * (axis in CATEGORIES) or ' '}{text}"
            for axis, text in zip(self.axes, self.texts, strict=True)
        ]
        return ", ".join(parts) or "tuned"

    @property
    def phrase(self) -> str:
        """What follows `fine-tuning`: `at fork density 0.5 and direction 0 with problem-level
        diversity`; empty without any axis."""
        pairs = list(zip(self.axes, self.texts, strict=True))
        at = [f"{title(axis)} {text}" for axis, text in pairs if axis not in CATEGORIES]
        kinds = [_in_words(axis, text) for axis, text in pairs if axis in CATEGORIES]
        said = [f"{word} {listed(some)}" for word, some in (("at", at), ("with", kinds)) if some]
        return " ".join(said)

    def along(self, axes: Sequence[str]) -> Setting:
        """The same setting, told by some of its axes."""
        kept = [self.values[self.axes.index(axis)] for axis in axes]
        return Setting(tuple(axes), tuple(kept))

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
    known = CATEGORIES.get(axis, ())
    return (float(known.index(value)), "") if value in known else (math.inf, value)


def title(axis: str) -> str:
    """An axis in words."""
    return axis.replace("_", " ")


def _short(value: Axis) -> str:
    """As short as can be without giving two values one name."""
    if value is None:
        return "unset"
    if isinstance(value, str):
        return value
    value = value or 0  # -0.0 is no other value
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _in_words(axis: str, text: str) -> str:
    if axis in ("structure", "loss"):
        return f"{text} {'diversity' if axis == 'structure' else 'loss'}"
    return _SYNTHESIS.get(text, f"{axis} {text}")


def listed(texts: Sequence[str]) -> str:
    """As in `a, b and c`."""
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last
