"""The cells of a study's summary, found by their place, and estimates over their seeds.

A summary holds one cell per setting of the data, temperature, seed and subset of the problems,
and the same for the base model. Where a study has several SFT seeds, an estimate is their mean;
its limits add the spread of the seeds (Student's t) to the interval of one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import ndtri, stdtrit

from forkdiv.core.results import Cell, Interval, Summary
from forkdiv.report.setting import CATEGORIES, Setting, title

Curve = Mapping[int, Interval | None]  # the values of one cell by k
Place = tuple[Setting | None, float, str]  # None: the base; temperature; subset
TunedPlace = tuple[Setting, float, str]

T = TypeVar("T")
ALL = "all"
ROUNDING = 1e-9
_SUBSET_TITLES = {
    ALL: "all problems",
    "signed": "signed forks",
    "unsigned": "unsigned forks",
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
        return direction_of(self.low, self.high)

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
    """The cells of a summary, the base first, and where they are; `settings` leaves out the base.

    `ks` are those that every valid cell has. `places` holds the cells of a place, one per seed.
    """

    axes: tuple[str, ...]
    cells: Sequence[Cell]
    confidence: float
    settings: tuple[Setting, ...]
    temperatures: tuple[float, ...]
    subsets: tuple[str, ...]
    seeds: tuple[int, ...]
    ks: tuple[int, ...]
    places: Mapping[Place, Sequence[Cell]]

    @classmethod
    def of(cls, summary: Summary) -> Grid:
        """Of the first decoder's cells, where there are several."""
        summary = under(summary, decoders_of(summary)[0])
        axes, cells = summary.axes, [*summary.base, *summary.cells]
        subsets = subsets_of(cells)
        keys = [(Setting.of(c, axes), c.temperature, c.subset) for c in cells]
        # the base first, then by setting, temperature, seed and subset
        order = sorted(
            range(len(cells)),
            key=lambda i: (
                keys[i][0] is not None,
                keys[i][0] or Setting((), ()),
                keys[i][1],
                cells[i].seed,
                subsets.index(keys[i][2]),
            ),
        )
        places: dict[Place, list[Cell]] = {}
        for i in order:
            places.setdefault(keys[i], []).append(cells[i])
        return cls(
            axes=axes,
            cells=[cells[i] for i in order],
            confidence=summary.confidence,
            settings=tuple(sorted({setting for setting, _, _ in keys if setting})),
            temperatures=tuple(sorted({cell.temperature for cell in cells})),
            subsets=subsets,
            seeds=tuple(sorted({cell.seed for cell in summary.cells})),
            ks=_shared_ks(cells),
            places=places,
        )

    @property
    def ends(self) -> tuple[int, ...]:
        """The smallest and the largest k that every valid cell has; one where they are one."""
        return tuple(sorted({self.ks[0], self.ks[-1]})) if self.ks else ()

    @property
    def percent(self) -> str:
        """The confidence in words."""
        return f"{self.confidence * 100:g}%"

    @property
    def is_scale(self) -> bool:
        """Whether the settings lie on one axis of numbers, so that it has two ends."""
        return len(self.axes) == 1 and self.axes[0] not in CATEGORIES

    @property
    def columns(self) -> list[str]:
        """What tells a cell apart: one column per axis, then temperature, seed and subset."""
        return [
            *(map(title, self.axes) if self.axes else ["model"]),
            "temperature",
            "seed",
            "subset",
        ]

    def row(self, cell: Cell) -> list[str]:
        """A cell's texts under `columns`; the base has no values along the axes."""
        setting = Setting.of(cell, self.axes)
        first = [*(setting.texts or ["tuned"])] if setting else ["base", *[""] * len(self.axes[1:])]
        return [*first, f"{cell.temperature:g}", str(cell.seed), cell.subset]

    def at(self, setting: Setting | None, temperature: float, subset: str) -> Sequence[Cell]:
        """The cells of one place, one per seed."""
        return self.places.get((setting, temperature, subset), [])

    def pass_at(
        self, setting: Setting | None, temperature: float, subset: str, k: int
    ) -> Estimate | None:
        """pass@k over the seeds of one place."""
        found = self._over_seeds(
            estimate(cell.pass_at, k) for cell in self.at(setting, temperature, subset)
        )
        return found and Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))

    def change(
        self, setting: Setting, temperature: float, subset: str, k: int, among: int = 1
    ) -> Estimate | None:
        """The difference of pass@k to the base over the seeds of one place. Where it was chosen
        for its size `among` several, its limits hold for all of those at once (Bonferroni)."""
        cells = self.at(setting, temperature, subset)
        return self._over_seeds((estimate(cell.delta_to_base, k) for cell in cells), among)

    def pass_at_once(
        self, setting: Setting | None, temperature: float, subset: str, k: int
    ) -> Estimate | None:
        """pass@k with limits that hold for every k of its curve at once."""
        found = self._at_once([cell.pass_at for cell in self.at(setting, temperature, subset)], k)
        return found and Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))

    def change_at_once(
        self, setting: Setting, temperature: float, subset: str, k: int
    ) -> Estimate | None:
        """The difference to the base with limits that hold for every k of its curve at once."""
        return self._at_once(
            [cell.delta_to_base for cell in self.at(setting, temperature, subset)], k
        )

    def distinct(
        self, setting: Setting | None, temperature: float, subset: str, k: int
    ) -> Estimate | None:
        """Distinct correct solutions among k samples, over the seeds of one place; 0 to k."""
        cells = self.at(setting, temperature, subset)
        found = self._over_seeds(_per_sample(cell, k) for cell in cells)
        return found and Estimate(found.value * k, max(found.low, 0.0) * k, found.high * k)

    def differ(self, one: TunedPlace, other: TunedPlace, k: int, among: int = 1) -> bool:
        """Whether the changes of two places are clearly apart: their limits must not overlap,
        and where they were chosen as extremes `among` several pairs, the limits of their
        difference must exclude 0 for all those pairs at once. False where one is unknown."""
        found = [
            (alone, at_once)
            for place in (one, other)
            if (alone := self.change(*place, k)) and (at_once := self.change(*place, k, among))
        ]
        if len(found) < 2:
            return False
        (low, low_at_once), (high, high_at_once) = sorted(found, key=lambda pair: pair[0].value)
        touching = (low.high - low.value) + (high.value - high.low)
        joint = math.hypot(low_at_once.high - low.value, high.value - high_at_once.low)
        return high.value - low.value > max(touching, joint) + ROUNDING

    def _at_once(self, curves: Sequence[Curve], k: int) -> Estimate | None:
        """Limits for all k at once: those of the one seed. Those of several are widened for the
        number of k (Bonferroni), since few seeds cannot tell how their values hang together."""
        kept = [curve for curve in curves if estimate(curve, k, at_once=True)]
        if len(kept) < 2:
            return estimate(kept[0], k, at_once=True) if kept else None
        return self._over_seeds((estimate(curve, k) for curve in kept), among=len(kept[0]))

    def _over_seeds(self, of_seeds: Iterable[Estimate | None], among: int = 1) -> Estimate | None:
        """Their mean, with limits for a new seed's expectation on new problems of the kind.

        Seeds are crossed with problems: all meet the same ones. The interval of one seed, averaged,
        stands for the problems, t over the seeds for the seeds, and the two are added as squares.
        Simulated with 2, 3 and 5 seeds, 95 % limits hold in 95 % of studies where only problems
        or only seeds matter, in 95 to 98 % where both do, and in more than 99 % where seeds differ
        problem by problem, since that part is then in both terms: cautious, never short. A change
        whose limits exclude 0 is one of the recipe; with 2 seeds only one that is large beside
        their spread can be found.
        """
        found = [one for one in of_seeds if one]
        if not found:
            return None
        tail = (0.5 - self.confidence / 2) / among
        wider = float(ndtri(1 - tail) / ndtri(0.5 + self.confidence / 2))
        values = np.array([one.value for one in found])
        below = wider * np.array([one.value - one.low for one in found])
        above = wider * np.array([one.high - one.value for one in found])
        directions = tuple(map(direction_of, values - below, values + above))
        # crossed: problems are shared, so their part does not shrink with more seeds
        down, up, mean = float(below.mean()), float(above.mean()), float(values.mean())
        if len(found) > 1:
            t = float(stdtrit(len(found) - 1, 1 - tail))
            spread = t * float(values.std(ddof=1)) / math.sqrt(len(found))
            down, up = math.hypot(spread, down), math.hypot(spread, up)
        return Estimate(mean, max(mean - down, -1.0), min(mean + up, 1.0), directions)


def decoders_of(summary: Summary) -> tuple[str | None, ...]:
    """The names of the decoders in their order; one None where the study does not vary them."""
    cells = [*summary.base, *summary.cells]
    return tuple(dict.fromkeys(cell.decoder for cell in cells)) or (None,)


def under(summary: Summary, decoder: str | None) -> Summary:
    """The summary with the cells of one decoder only."""
    return summary.filter_cells(lambda cell: cell.decoder == decoder)


def estimate(curve: Curve, k: int, at_once: bool = False) -> Estimate | None:
    """What a curve of one cell holds at k, with limits there alone or `at_once` for all its k;
    None where it has no such value, as every curve of an invalid cell."""
    return as_estimate(curve.get(k), at_once)


def as_estimate(interval: Interval | None, at_once: bool = False) -> Estimate | None:
    """An interval of the summary; None where a number is missing."""
    if interval is None:
        return None
    low, high = (interval.low_all, interval.high_all) if at_once else (interval.low, interval.high)
    if low is None or high is None or not all(map(math.isfinite, (interval.value, low, high))):
        return None
    return Estimate(interval.value, low, high)


def _per_sample(cell: Cell, k: int) -> Estimate | None:
    """The distinct solutions among k samples divided by k: a share, as the limits expect."""
    found = estimate(cell.distinct_at, k)
    return found and Estimate(found.value / k, found.low / k, found.high / k)


def direction_of(low: float, high: float) -> int:
    """1 or -1 where the limits exclude 0, else 0; rounding errors do not count."""
    return int(low > ROUNDING) - int(high < -ROUNDING)


def nearest_1(temperatures: Iterable[float]) -> float:
    """The temperature that a study is read at first."""
    return min(temperatures, key=lambda temperature: (abs(temperature - 1), temperature))


def thinned(values: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly, both ends kept."""
    most = min(len(values), most)
    return [values[round(at)] for at in np.linspace(0, len(values) - 1, most)] if values else []


def subsets_of(cells: Iterable[Cell]) -> tuple[str, ...]:
    """In the order in which they appear, `all` first."""
    found = dict.fromkeys(cell.subset for cell in cells)
    return tuple(sorted(found, key=lambda subset: subset != ALL))


def subset_title(subset: str) -> str:
    return _SUBSET_TITLES.get(subset, subset)


def cut(name: str, most: int = 36) -> str:
    """A name short enough for a title or a legend."""
    one_line = " ".join(name.split()) or "(no name)"
    return one_line if len(one_line) <= most else f"{one_line[: most - 1].rstrip()}…"


def signed(value: float, digits: int = 3) -> str:
    """A change with its sign; 0 has none."""
    rounded = round(value, digits) or 0.0
    return f"{rounded:{'+' if rounded else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _shared_ks(cells: Iterable[Cell]) -> tuple[int, ...]:
    measured = [{k for k in cell.pass_at if estimate(cell.pass_at, k)} for cell in cells]
    kept = [ks for ks in measured if ks]
    return tuple(sorted(set.intersection(*kept))) if kept else ()
