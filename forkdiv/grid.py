"""The cells of a study's summary, found by their place, and estimates over their seeds.

A summary holds one cell per fork density, temperature, seed and subset of the problems, and the
same for the base model. Where a study has several SFT seeds, an estimate is their mean; its
limits add the spread of the seeds (Student's t) to the interval of one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

Cell = dict[str, Any]

SUBSETS = ("all", "signed", "unsigned")
SUBSET_TITLES = {"all": "all problems", "signed": "signed forks", "unsigned": "unsigned forks"}


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
        return direction_of(self.low, self.high)

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
            {int(k) for k in cell["pass_at"] if estimate(cell, "pass_at", int(k))} for cell in cells
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

    @property
    def percent(self) -> str:
        """The confidence in words."""
        return f"{self.confidence * 100:g}%"

    def at(self, density: float | None, temperature: float, subset: str) -> list[Cell]:
        """The cells of one place, one per seed."""
        wanted = (density, temperature, subset)
        return [
            cell
            for cell in self.cells
            if (cell["fork_density"], cell["temperature"], cell["subset"]) == wanted
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
        found = [entry for cell in cells if (entry := estimate(cell, field, k))]
        if not found:
            return None
        directions = tuple(direction_of(one.low, one.high) for one in found)
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


def estimate(cell: Cell, field: str, k: int) -> Estimate | None:
    """What one cell holds at k; None where the cell is invalid or has no such value."""
    entry = (cell.get(field) or {}).get(str(k))
    if not cell["valid"] or not entry:
        return None
    value, low, high = entry["value"], entry["low"], entry["high"]
    if any(one is None or not math.isfinite(one) for one in (value, low, high)):
        return None
    return Estimate(value, low, high)


def direction_of(low: float, high: float) -> int:
    """1 or -1 where the limits exclude 0, else 0; rounding errors do not count."""
    return (low > 1e-9) - (high < -1e-9)


def place(cell: Cell) -> list[str]:
    """Density, temperature, seed and subset of a cell, in words."""
    density = cell["fork_density"]
    first = "base" if density is None else f"{density:g}"
    return [first, f"{cell['temperature']:g}", str(cell["seed"]), cell["subset"]]


def ordered(cells: Iterable[Cell]) -> list[Cell]:
    """The base first, then by density, temperature, seed and subset."""
    return sorted(
        cells,
        key=lambda cell: (
            -1.0 if cell["fork_density"] is None else cell["fork_density"],
            cell["temperature"],
            cell["seed"],
            SUBSETS.index(cell["subset"]),
        ),
    )


def signed(value: float, digits: int = 3) -> str:
    """A change with its sign; 0 has none."""
    rounded = round(value, digits) or 0.0
    return f"{rounded:{'+' if rounded else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")
