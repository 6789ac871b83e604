"""The metrics of a comparison by the names that users write: pass@64, cover@0.5, majority@8 …"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.results import Cell, Interval
from forkdiv.coverage import reliability
from forkdiv.coverage.metrics import METRICS

NEAR = 0.6  # similarity of the kinds of metrics from which a name is suggested
UNBOUNDED = "distinct"  # a number of solutions; all other metrics are shares


@dataclass(frozen=True)
class Metrics:
    """The names of the metrics that are measured; of a finished cell, also their `values` and their
    `changes` from the base. `reason` says why some are not measured."""

    names: tuple[str, ...]
    values: Mapping[str, Interval] = field(default_factory=dict)
    changes: Mapping[str, Interval] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def to_measure(cls, config: EvalConfig, independent: bool, has_answers: bool) -> Metrics:
        """Returns the metrics of a comparison before it runs. `independent` says that the decoder
        draws independent samples; `has_answers` that verdicts contain answers."""
        if not independent or config.enough:
            reason = (
                "the decoder or eval.enough makes the samples of a problem depend on each other"
            )
            return cls(_at("pass", config.ks), reason=reason)
        of_answers = ["majority", "above-guess"] if has_answers else []
        reason = "" if has_answers else "the verdicts of this task have no answers"
        kinds = ["pass", *of_answers, "distinct", *METRICS.names()]
        by_k = [name for kind in kinds for name in _at(kind, config.ks)]
        return cls((*by_k, *reliability.names(config)), reason=reason)

    @classmethod
    def of_cell(cls, cell: Cell) -> Metrics:
        """Returns the metrics that a cell has limits for."""
        guess = cell.guess
        values = {
            **_named("pass", {k: value for k, value in cell.pass_at.items() if value}),
            **_named("majority", cell.majority_limits),
            **_named("distinct", cell.distinct_at),
            **(_named("above-guess", guess.above) if guess else {}),
            **{n: i for kind, of in cell.metrics.items() for n, i in _named(kind, of).items()},
            **cell.reliability,
        }
        changes = {
            **_named("pass", cell.delta_to_base),
            **_named("majority", cell.majority_delta),
            **_named("distinct", cell.distinct_delta),
            **(_named("above-guess", guess.above_delta) if guess else {}),
            **{
                n: i for kind, of in cell.metrics_delta.items() for n, i in _named(kind, of).items()
            },
            **cell.reliability_delta,
        }
        return cls(tuple(values), values, changes)

    @property
    def allowed(self) -> str:
        """Returns the metrics in a phrase: `pass@1, 2, 4; cover@0.5; g-pass@K_TAU (K 2, 4; …)`."""
        return "metrics " + "; ".join(f"{kind}@{_places(at)}" for kind, at in self._kinds.items())

    def check(self, name: str, where: str) -> str:
        """Returns the name in its canonical form (cover@.50 is cover@0.5). Raises UserError, with
        the nearest metric that is measured, if it is not measured."""
        canonical = _canonical(name)
        if canonical not in self.names:
            raise self.missing(canonical, where)
        return canonical

    def missing(self, name: str, where: str) -> UserError:
        near = self._nearest(name)
        remedy = f"did you mean {near}?" if near else "correct the metric"
        kind = name.partition("@")[0]
        if kind in self._kinds:
            remedy += f" Or set {'eval.tau' if kind == 'cover' else 'eval.k'} so that it has {name}"
        reason = f" ({self.reason})" if self.reason else ""
        return refuse(
            f"{where} has a metric that is not measured", name, self.allowed + reason, remedy
        )

    def range_of(self, name: str, of_change: bool) -> tuple[float, float]:
        """Returns the lowest and the highest value that a metric, or its change, can have."""
        kind, _, at = name.partition("@")
        if kind == UNBOUNDED:
            return (-float(at) if of_change else 0.0), float(at)
        if kind == "above-guess":
            return (-2.0, 2.0) if of_change else (-1.0, 1.0)
        return (-1.0 if of_change else 0.0), 1.0

    def _nearest(self, name: str) -> str | None:
        kind, _, at = name.partition("@")
        near_kinds = difflib.get_close_matches(kind, self._kinds, 1, NEAR)
        same_kind = [f"{near}@{place}" for near in near_kinds for place in self._kinds[near]]
        return min(
            same_kind, key=lambda known: _distance(at, known.partition("@")[2]), default=None
        )

    @property
    def _kinds(self) -> dict[str, list[str]]:
        """The positions of each kind: {"pass": ["1", "2"], "g-pass": ["2_0.5"]}."""
        kinds: dict[str, list[str]] = {}
        for name in self.names:
            kind, _, at = name.partition("@")
            kinds.setdefault(kind, []).append(at)
        return kinds


def _at(kind: str, ks: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"{kind}@{k}" for k in ks)


def _places(places: Sequence[str]) -> str:
    """Returns the k or tau of a metric, of G-Pass@k both."""
    if not any("_" in place for place in places):
        return ", ".join(places)
    pairs = [place.split("_") for place in places]
    ks, taus = (", ".join(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    return f"K_TAU (K {ks}; TAU {taus})"


def _named(kind: str, by_k: Mapping[int, Interval]) -> dict[str, Interval]:
    return {f"{kind}@{k}": interval for k, interval in by_k.items()}


def _canonical(name: str) -> str:
    kind, _, at = name.partition("@")
    numbers = at.split("_")
    if not all(re.fullmatch(r"\d*\.?\d+", number) for number in numbers):
        return name
    return f"{kind}@{'_'.join(f'{float(number):g}' for number in numbers)}"


def _distance(one: str, other: str) -> float:
    """Returns how far two positions such as 16_0.5 are apart, in logarithms."""
    pairs = zip(_numbers(one), _numbers(other), strict=False)
    return sum(abs(math.log(max(a, 1e-9)) - math.log(max(b, 1e-9))) for a, b in pairs)


def _numbers(at: str) -> list[float]:
    return [float(part) for part in at.split("_") if re.fullmatch(r"\d*\.?\d+", part)]
