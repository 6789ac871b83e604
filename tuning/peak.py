"""Finds the checkpoint with the largest pass@k in few evaluations.

Golden-section search over the ordered checkpoints. It assumes that pass@k rises to one peak and
falls after it, and compares estimates: where two of them differ by less than their noise, it may
leave out the part with the peak. So the result is compared with its neighbours, and says where the
measurement does not separate them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.results import Interval, Summary
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.tasks.registry import build
from tuning import adapters, preflight
from tuning.comparison import Pair
from tuning.series import GrowingTable, Series, interval_text, open_series

Show = Callable[[str], None]

GOLDEN = (5**0.5 - 1) / 2
LEFT_TO_MEASURE = 3  # so few checkpoints are all measured


@dataclass
class Search:
    """The positions of measured checkpoints with their pass@k. `decisions` are the pairs of
    positions whose comparison left out a part of the run."""

    values: dict[int, float] = field(default_factory=dict)
    decisions: list[tuple[int, int]] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The position with the largest value, the earliest if several have it."""
        return max(self.values, key=lambda at: (self.values[at], -at))

    def unmeasured_neighbours(self, count: int) -> list[int]:
        """Returns the positions beside the best one that are not measured."""
        around = (self.best - 1, self.best + 1)
        return [at for at in around if 0 <= at < count and at not in self.values]


def search(count: int, measure: Callable[[int], float]) -> Search:
    """Returns the search over `count` positions; `measure` returns pass@k at one of them and is
    called once for each that is needed."""
    done = Search()

    def at(position: int) -> float:
        if position not in done.values:
            done.values[position] = measure(position)
        return done.values[position]

    low, high = 0, count - 1
    while high - low + 1 > LEFT_TO_MEASURE:
        left, right = _inner(low, high)
        done.decisions.append((left, right))
        # on a tie the earlier part: less training for the same coverage
        low, high = (low, right - 1) if at(left) >= at(right) else (left + 1, high)
    for position in range(low, high + 1):
        at(position)
    while missing := done.unmeasured_neighbours(count):
        at(missing[0])  # may be better still
    return done


def _inner(low: int, high: int) -> tuple[int, int]:
    """Returns two different positions inside of low to high, at the golden sections."""
    step = round(GOLDEN * (high - low))
    left, right = high - step, low + step
    if left >= right:
        left, right = (low + high) // 2, (low + high) // 2 + 1
    return left, right


def found(series: Series, numbers: list[float], done: Search) -> tuple[float, tuple[str, ...]]:
    """Returns the step or epoch of the peak, and the notes that say how far it can be trusted."""
    best = numbers[done.best]
    value = series.value(best)
    assert value is not None
    measured = ", ".join(f"{numbers[at]:g}" for at in sorted(done.values))
    notes = [
        f"peak search: {len(done.values)} of {len(numbers)} checkpoints measured ({series.unit} "
        f"{measured}); the largest pass@{series.k} is at {series.unit} {best:g}: {value.value:.3f} "
        f"[{value.low:.3f}, {value.high:.3f}]. It assumes that pass@{series.k} rises to one peak "
        "and falls after it"
    ]
    changes = {
        at: series.change(best, numbers[at])
        for at in (done.best - 1, done.best + 1)
        if at in done.values
    }
    unclear = [
        f"{series.unit} {numbers[at]:g} ({interval_text(change)})"
        for at, change in changes.items()
        if change and includes_zero(change)
    ]
    if unclear:
        notes.append(
            f"the measurement does not separate {series.unit} {best:g} from its neighbours "
            f"{' and '.join(unclear)}: more problems or samples would"
        )
    unsure = [
        (numbers[first], numbers[second])
        for first, second in done.decisions
        if (change := series.change(numbers[second], numbers[first])) and includes_zero(change)
    ]
    if unsure:
        pairs = ", ".join(f"{first:g} and {second:g}" for first, second in unsure)
        notes.append(
            f"{len(unsure)} of {len(done.decisions)} comparisons that chose where to look were "
            f"within their noise ({series.unit} {pairs}): the peak may lie elsewhere; without "
            "--search every checkpoint is measured"
        )
    return best, tuple(notes)


def search_peak(
    study: StudyConfig, base: Checkpoint, unit: str, folders: Mapping[float, Path], show: Show
) -> tuple[Summary, Pair]:
    """Measures as many of the checkpoints as the search takes, and returns the summary in which the
    one with the largest pass@k is compared with the base."""
    began = time.perf_counter()
    numbers = list(folders)
    with open_series(study, base, unit, show) as series:
        table = GrowingTable(series, show)

        def measure(position: int) -> float:
            number = numbers[position]
            path = adapters.merged(study, folders[number], show)
            series.sources[path] = folders[number]
            checkpoint = preflight.check_checkpoint(path, build(study.task))
            preflight.check_prompts(study, path, build(study.task))
            result = series.measure(number, checkpoint)
            table.add(number, result)
            if (value := series.value(number)) is None:
                raise InvalidResult(
                    f"{folders[number].name} has samples without a verdict: the search cannot go on"
                )
            return value.value

        done = search(len(numbers), measure)
        best, notes = found(series, numbers, done)
        for note in notes:
            show(note)
        pair = series.pair(best, notes)
        return series.finished(pair, {"total": time.perf_counter() - began}, show), pair


def includes_zero(change: Interval) -> bool:
    return change.low <= 0 <= change.high
