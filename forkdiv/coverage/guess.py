"""The guess baseline: what guessing would get that does not depend on the problem.

pass@k at large k rewards guessing where answers have few values: with four choices, 16 guesses
include the right one with probability 0.99 (arXiv 2510.08325; arXiv 2410.15466 compares repeated
sampling with such a baseline). Here the guesser answers a problem with k of the model's own
responses to the other problems. Only their answers matter, and they tell nothing about the problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forkdiv.coverage import stats
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts


@dataclass(frozen=True)
class GuessValues:
    """`pass_at` has shape (problems, ks). `references` is the number of distinct right answers,
    `unknown` the number of problems whose right answer is unknown: their value is 0."""

    pass_at: Floats
    references: int
    unknown: int


def guess_values(
    counts: Sequence[ProblemCounts], right: Sequence[frozenset[str]], ks: Sequence[int]
) -> GuessValues | None:
    """Returns pass@k of each problem for k responses drawn without replacement from the responses
    to all other problems: `stats.pass_at_k` with the number of those responses and of those whose
    answer is in `right`, the right answers of the problem.

    A response without a readable answer is never right. None if the counts have no answers, if no
    right answer is known, or if the other problems have fewer than max(ks) responses.
    """
    if any(problem.answers is None for problem in counts) or not any(right):
        return None
    total: Counter[str] = Counter()
    for problem in counts:
        total.update(problem.answers or {})
    samples = sum(problem.n for problem in counts)
    others = np.array([samples - problem.n for problem in counts])
    if others.min() < max(ks):
        return None
    hits = np.array(
        [
            sum(total[answer] - (problem.answers or {}).get(answer, 0) for answer in answers)
            for problem, answers in zip(counts, right, strict=True)
        ]
    )
    return GuessValues(
        pass_at=stats.pass_at_k(others[:, None], hits[:, None], np.array(ks)),
        references=len(frozenset().union(*right)),
        unknown=sum(not answers for answers in right),
    )


def right_answers(*models: Sequence[ProblemCounts] | None) -> list[frozenset[str]]:
    """Returns the right answers of each problem that are known from the counts of any model."""
    known = [model for model in models if model is not None]
    return [
        frozenset().union(*(problem.right_answers for problem in rows))
        for rows in zip(*known, strict=True)
    ]
