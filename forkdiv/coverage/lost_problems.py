"""What a cell says of coverage shrinkage: where it sets in, and which problems were lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from forkdiv.core.results import ChangedProblem, Crossing, LargestLoss, Shrinkage, Side
from forkdiv.coverage import estimate, stats
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

MOST_LISTED = 10  # problems of each kind that are named, with two texts of each model


def view(
    tuned: Sequence[ProblemCounts],
    base: Sequence[ProblemCounts],
    prompts: Sequence[str],
    ks: Sequence[int],
    values: tuple[Floats, Floats],
    weights: Floats,
    confidence: float,
    intervals: Sequence[stats.Interval],
) -> Shrinkage:
    """What a cell holds of shrinkage.

    `values` are pass@k of tuned and base, of shape (problems, ks), `intervals` those of their
    difference. Lost and gained are counted at the largest k and, where there are `prompts`, the
    MOST_LISTED that changed most are named. The largest loss has limits for all k at once.
    """
    of_tuned, of_base = values
    n, correct, before = (np.array(some) for some in _counts(tuned, base))
    changed = stats.changed(n, correct, before, of_tuned[:, -1], of_base[:, -1], 1 - confidence)
    # the test is one of independent samples, equally many on both sides
    independent = estimate.exchangeable([*tuned, *base])

    def listed(rows: Sequence[int]) -> tuple[ChangedProblem, ...]:
        return tuple(
            ChangedProblem(
                id=tuned[i].problem_id,
                prompt=prompts[i],
                clear=independent and bool(changed.clear[i]),
                base=_side(base[i], of_base[i, -1]),
                tuned=_side(tuned[i], of_tuned[i, -1]),
            )
            for i in (rows[:MOST_LISTED] if prompts else ())
        )

    crossing = stats.crossing(ks, of_tuned - of_base, weights, confidence)
    return Shrinkage(
        at_k=ks[-1],
        lost_count=len(changed.lost),
        gained_count=len(changed.gained),
        lost=listed(changed.lost.tolist()),
        gained=listed(changed.gained.tolist()),
        crossing=Crossing(**asdict(crossing)),
        largest_loss=_largest(ks, intervals),
    )


def _counts(
    tuned: Sequence[ProblemCounts], base: Sequence[ProblemCounts]
) -> tuple[list[int], list[int], list[int]]:
    return [one.n for one in tuned], [one.correct for one in tuned], [one.correct for one in base]


def _side(counts: ProblemCounts, pass_at: float) -> Side:
    return Side(
        n=counts.n,
        correct=counts.correct,
        pass_at=float(pass_at),
        right=counts.right_text,
        wrong=counts.wrong_text,
    )


def _largest(ks: Sequence[int], intervals: Sequence[stats.Interval]) -> LargestLoss | None:
    k, worst = min(zip(ks, intervals, strict=True), key=lambda pair: pair[1].value)
    if worst.value >= -stats.NO_CHANGE:
        return None
    return LargestLoss(k=k, value=worst.value, low=worst.low_all, high=worst.high_all)
