"""The coverage shrinkage of a cell: the k at which it begins, and the problems that were lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from forkdiv.core.results import ChangedProblem, Crossing, LargestLoss, Shrinkage, Side
from forkdiv.coverage import estimate, stats
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

MOST_LISTED = 10  # lost, and gained, problems that are listed with two responses of each model


def shrinkage_of(
    tuned: Sequence[ProblemCounts],
    base: Sequence[ProblemCounts],
    prompts: Sequence[str],
    ks: Sequence[int],
    values: tuple[Floats, Floats],
    weights: Floats,
    confidence: float,
    intervals: Sequence[stats.Interval],
) -> Shrinkage:
    """Returns the coverage shrinkage of a cell.

    `values` are pass@k of tuned and base, of shape (problems, ks); `intervals` are those of their
    mean difference. Lost and gained problems are counted at the largest k; with `prompts`, the
    MOST_LISTED problems with the largest change are listed. The limits of the largest loss are
    simultaneous over all k.
    """
    tuned_pass, base_pass = values
    n, correct, base_correct = (np.array(column) for column in _counts(tuned, base))
    changed = stats.changed(
        n, correct, base_correct, tuned_pass[:, -1], base_pass[:, -1], 1 - confidence
    )
    # Fisher's test needs independent samples, and the same number for base and tuned
    independent = estimate.exchangeable([*tuned, *base])

    def listed(rows: Sequence[int]) -> tuple[ChangedProblem, ...]:
        return tuple(
            ChangedProblem(
                id=tuned[i].problem_id,
                prompt=prompts[i],
                clear=independent and bool(changed.clear[i]),
                base=_side(base[i], base_pass[i, -1]),
                tuned=_side(tuned[i], tuned_pass[i, -1]),
            )
            for i in (rows[:MOST_LISTED] if prompts else ())
        )

    crossing = stats.crossing(ks, tuned_pass - base_pass, weights, confidence)
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
    return (
        [problem.n for problem in tuned],
        [problem.correct for problem in tuned],
        [problem.correct for problem in base],
    )


def _side(counts: ProblemCounts, pass_at: float) -> Side:
    return Side(
        n=counts.n,
        correct=counts.correct,
        pass_at=float(pass_at),
        right=counts.right_text,
        wrong=counts.wrong_text,
    )


def _largest(ks: Sequence[int], intervals: Sequence[stats.Interval]) -> LargestLoss | None:
    k, largest = min(zip(ks, intervals, strict=True), key=lambda pair: pair[1].value)
    if largest.value >= -stats.NO_CHANGE:
        return None
    return LargestLoss(k=k, value=largest.value, low=largest.low_all, high=largest.high_all)
