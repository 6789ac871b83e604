"""The metrics of a cell beside pass@k: majority vote, reliability, registered metrics, guessing.

All of them need exchangeable samples, and have a paired change from the base with limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.core.results import Guess, Interval
from forkdiv.coverage import reliability, stats
from forkdiv.coverage.guess import GuessValues, guess_values, right_answers
from forkdiv.coverage.metrics import metric_values
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

# Random sample orders behind a mean over problems of majority@k: its error is at most 0.0016.
MAJORITY_DRAWS = 100_000

Counts = Sequence[ProblemCounts]


@dataclass(frozen=True)
class Comparison:
    """The counts of a cell and of its base (None for the base itself), with what limits need:
    `weights` are the bootstrap weights of the problems, of shape (replicates, problems)."""

    counts: Counts
    base: Counts | None
    weights: Floats
    config: EvalConfig

    @property
    def strata(self) -> list[str]:
        return [problem.subset for problem in self.counts]

    def means(self, values: Floats) -> list[stats.Interval]:
        """Returns the mean over problems of each column of `values`, with limits."""
        return stats.mean_intervals(values, self.weights, self.config.confidence, self.strata)

    def changes(self, tuned: Floats, base: Floats) -> list[stats.Interval]:
        """Returns the paired mean difference of each column, with limits."""
        confidence = self.config.confidence
        return stats.paired_differences(tuned, base, self.weights, confidence, self.strata)


def measure(cell: Comparison, pass_at: Floats, base_pass_at: Floats | None) -> dict[str, Any]:
    """Returns the fields of `Measured` by name. `pass_at` and `base_pass_at` (None without a base)
    have shape (problems, ks)."""
    return {
        **_majority(cell),
        **_reliability(cell),
        **_registered(cell),
        "guess": _guess(cell, pass_at, base_pass_at),
        "paired_counts": _paired_counts(cell),
    }


def _majority(cell: Comparison) -> dict[str, Any]:
    """Returns majority@k; empty if verdicts contain no answers."""
    values = _majority_values(cell.counts, cell.config)
    if values is None:
        return {"majority_at": {}}
    means = cell.means(values)
    fields: dict[str, Any] = {
        "majority_at": {k: mean.value for k, mean in zip(cell.config.ks, means, strict=True)},
        "majority_limits": by_k(cell.config.ks, means),
    }
    base = None if cell.base is None else _majority_values(cell.base, cell.config)
    if base is not None:
        fields["majority_delta"] = by_k(cell.config.ks, cell.changes(values, base))
    return fields


def _majority_values(counts: Counts, config: EvalConfig) -> Floats | None:
    # each problem has its own seed, so that sampling errors average out
    draws = -(-MAJORITY_DRAWS // len(counts))
    rows = [
        stats.majority_at_k(
            problem.n, problem.right_votes, problem.wrong_votes, config.ks, draws, seed
        )
        for seed, problem in enumerate(counts)
        if problem.right_votes is not None and problem.wrong_votes is not None
    ]
    return np.array(rows) if len(rows) == len(counts) else None


def _reliability(cell: Comparison) -> dict[str, Any]:
    families = reliability.values(cell.counts, cell.config)
    fields = {"reliability": _results(reliability.intervals(families, cell.means))}
    if cell.base is not None:
        base = reliability.values(cell.base, cell.config)
        changes: dict[str, stats.Interval] = {}
        for tuned, before in zip(families, base, strict=True):
            columns = (np.stack(list(side.values()), axis=1) for side in (tuned, before))
            changes |= dict(zip(tuned, cell.changes(*columns), strict=True))
        fields["reliability_delta"] = _results(changes)
    return fields


def _registered(cell: Comparison) -> dict[str, Any]:
    """Returns the metrics of the open list, by name and k."""
    ks = cell.config.ks
    values = metric_values(cell.counts, ks)
    fields = {"metrics": {name: by_k(ks, cell.means(of)) for name, of in values.items()}}
    if cell.base is not None:
        base = metric_values(cell.base, ks)
        fields["metrics_delta"] = {
            name: by_k(ks, cell.changes(of, base[name])) for name, of in values.items()
        }
    return fields


def _guess(cell: Comparison, pass_at: Floats, base_pass_at: Floats | None) -> Guess | None:
    ks = cell.config.ks
    right = right_answers(cell.counts, cell.base)
    guessed = guess_values(cell.counts, right, ks)
    if guessed is None:
        return None
    above_delta: dict[int, Interval] = {}
    base = None if cell.base is None else guess_values(cell.base, right, ks)
    if base is not None and base_pass_at is not None:
        above_delta = by_k(ks, _above_change(cell, (pass_at, guessed), (base_pass_at, base)))
    return Guess(
        pass_at=by_k(ks, cell.means(guessed.pass_at)),
        above=by_k(ks, cell.changes(pass_at, guessed.pass_at)),
        above_delta=above_delta,
        references=guessed.references,
        unknown=guessed.unknown,
    )


def _above_change(
    cell: Comparison, tuned: tuple[Floats, GuessValues], base: tuple[Floats, GuessValues]
) -> list[stats.Interval]:
    """Returns the change of pass@k minus the guess baseline. The differences lie in [-2, 2], and
    limits expect [-1, 1]: they are computed for half of them."""
    above, before = (values - guessed.pass_at for values, guessed in (tuned, base))
    halves = cell.changes(above / 2, before / 2)
    numbers = ("value", "low", "high", "low_all", "high_all")
    return [
        stats.Interval(**{name: 2 * getattr(half, name) for name in numbers}, method=half.method)
        for half in halves
    ]


def _paired_counts(cell: Comparison) -> tuple[tuple[int, int, int], ...]:
    if cell.base is None:
        return ()
    pairs = Counter(
        (before.correct, after.correct)
        for before, after in zip(cell.base, cell.counts, strict=True)
    )
    return tuple((base, tuned, problems) for (base, tuned), problems in sorted(pairs.items()))


def by_k(ks: Iterable[int], intervals: Sequence[stats.Interval]) -> dict[int, Interval]:
    return {k: Interval(**asdict(interval)) for k, interval in zip(ks, intervals, strict=True)}


def _results(intervals: Mapping[str, stats.Interval]) -> dict[str, Interval]:
    return {name: Interval(**asdict(interval)) for name, interval in intervals.items()}
