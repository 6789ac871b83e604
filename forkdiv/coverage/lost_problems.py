"""What a cell says of coverage shrinkage: where it sets in, and which problems were lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

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
) -> dict[str, Any]:
    """The `shrinkage` of a cell, as plain JSON values.

    `values` are pass@k of tuned and base, of shape (problems, ks), `intervals` those of their
    difference. Lost and gained are counted at the largest k and, where there are `prompts`, the
    MOST_LISTED that changed most are named. The largest loss has limits for all k at once.
    """
    ours, theirs = values
    n, c, before = (np.array(some) for some in _counts(tuned, base))
    found = stats.changed(n, c, before, ours[:, -1], theirs[:, -1], 1 - confidence)
    # the test is one of independent samples, equally many on both sides
    independent = estimate.exchangeable([*tuned, *base])
    sides = {"lost": found.lost, "gained": found.gained}
    listed = {
        kind: [
            {
                "id": tuned[i].problem_id,
                "prompt": prompts[i],
                "clear": independent and bool(found.clear[i]),
                "base": _side(base[i], theirs[i, -1]),
                "tuned": _side(tuned[i], ours[i, -1]),
            }
            for i in (rows[:MOST_LISTED] if prompts else ())
        ]
        for kind, rows in sides.items()
    }
    return {
        "at_k": ks[-1],
        **{f"{kind}_count": len(rows) for kind, rows in sides.items()},
        **listed,
        "crossing": asdict(stats.crossing(ks, ours - theirs, weights, confidence)),
        "largest_loss": _largest(ks, intervals),
    }


def _counts(
    tuned: Sequence[ProblemCounts], base: Sequence[ProblemCounts]
) -> tuple[list[int], list[int], list[int]]:
    return [one.n for one in tuned], [one.correct for one in tuned], [one.correct for one in base]


def _side(counts: ProblemCounts, pass_at: float) -> dict[str, Any]:
    return {
        "n": counts.n,
        "correct": counts.correct,
        "pass_at": float(pass_at),
        "right": counts.right_text,
        "wrong": counts.wrong_text,
    }


def _largest(ks: Sequence[int], intervals: Sequence[stats.Interval]) -> dict[str, Any] | None:
    k, worst = min(zip(ks, intervals, strict=True), key=lambda pair: pair[1].value)
    if worst.value >= -stats.NO_CHANGE:
        return None
    return {"k": k, "value": worst.value, "low": worst.low_all, "high": worst.high_all}
