"""What a random search draws. A draw depends on the search's seed, the axis and the number of the
draw only: a search with more trials, or of another evaluation, has the same first trials."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from forkdiv.core.config.axes import SEED, axis_fields
from forkdiv.core.config.axis_range import AxisRange, rounded
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse

DIGITS = 4  # of a drawn number, so that names of trials stay short
MOST_REPEATED = 1000  # draws in a row that are no new combination


@dataclass(frozen=True)
class Domain:
    """The values of one axis: a list, or all numbers between two ends."""

    path: str
    values: tuple[Any, ...] | AxisRange
    is_integer: bool

    @property
    def size(self) -> float:
        """The number of values; infinite for a range of real numbers."""
        if isinstance(self.values, tuple):
            return len(self.values)
        low, high = self.values.ends
        return high - low + 1 if self.is_integer else math.inf

    def at(self, share: float) -> Any:
        """Returns the value at a share of the way through the domain, 0 to below 1."""
        if isinstance(self.values, tuple):
            return self.values[int(share * len(self.values))]
        low, high = self.values.ends
        if not self.is_integer:
            value = low * (high / low) ** share if self.values.log else low + (high - low) * share
            return self.number(value)
        past = high + 1  # so that each integer has a share of its own, the last as well
        value = low * (past / low) ** share if self.values.log else low + (past - low) * share
        return min(int(value), int(high))

    def number(self, value: float) -> float:
        """Returns a number of a continuous range with few digits, within the ends."""
        assert isinstance(self.values, AxisRange)
        low, high = self.values.ends
        return min(max(rounded(value, DIGITS), low), high)


def domains(study: StudyConfig) -> list[Domain]:
    """Returns the domains of the study's axes, in the order of the config."""
    fields = axis_fields(StudyConfig, type(study.task))
    by_path = study.sweep.by_path
    order = [path for path in by_path if path not in fields] + [p for p in fields if p in by_path]
    return [
        Domain(path, by_path[path], path == SEED or (path in fields and fields[path].is_integer))
        for path in order
    ]


def draws(study: StudyConfig) -> list[dict[str, Any]]:
    """Returns sweep.trials different combinations of values by path.

    Raises UserError if the axes have fewer combinations.
    """
    known, trials = domains(study), study.sweep.trials
    assert trials
    check_size(known, trials, study.sweep.search)
    found: dict[str, dict[str, Any]] = {}
    repeated = 0
    for values in _drawn(known, study.sweep.search_seed):
        name = combination(values)
        repeated = repeated + 1 if name in found else 0
        found.setdefault(name, values)
        if len(found) == trials or repeated > MOST_REPEATED:
            break
    if len(found) < trials:
        raise _too_few(study.sweep.search, trials, f"about {len(found)}")
    return list(found.values())


def check_size(known: Sequence[Domain], trials: int, search: str) -> None:
    """Raises UserError for more trials than the axes have combinations."""
    size = math.prod(domain.size for domain in known)
    if trials > size:
        raise _too_few(search, trials, f"{int(size)}")


def combination(values: Mapping[str, Any]) -> str:
    """Returns a text that is equal for equal values."""
    return json.dumps(values, sort_keys=True, default=str)


def _drawn(known: Sequence[Domain], seed: int) -> Iterator[dict[str, Any]]:
    for number in count():
        # the sequence of Random(text).random() is the same in all versions of Python
        shares = {d.path: Random(f"{seed} {d.path} {number}").random() for d in known}
        yield {domain.path: domain.at(shares[domain.path]) for domain in known}


def _too_few(search: str, trials: int, size: str) -> Exception:
    return refuse(
        f"the axes have too few combinations for sweep.search={search}",
        f"sweep.trials={trials}, {size} combinations",
        f"at most {size} trials",
        "lower sweep.trials, or set sweep.search=grid",
    )
