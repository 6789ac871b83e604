"""pass@k of counted samples, by the estimator that fits how they were drawn.

Independent samples are exchangeable. Those forced through fixed first tokens are so within their
stratum only, and k of them are k dealt over the strata in turn; those of fork-stratified
sampling depend on each other within their tree. Where settled problems got no more samples, how
many there are depends on what they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forkdiv.core.errors import InvalidResult
from forkdiv.coverage import stats
from forkdiv.coverage.stats import Agreement, Floats
from forkdiv.score.counts import ProblemCounts


def exchangeable(counts: Sequence[ProblemCounts]) -> bool:
    """Whether any k samples of a problem are as good as any other k."""
    return not any(one.strata or one.trees or one.stages for one in counts)


def pass_at(counts: Sequence[ProblemCounts], ks: Sequence[int], best_case: bool = False) -> Floats:
    """Shape (problems, ks). In the best case every cut-off or unreadable answer was correct.

    Raises InvalidResult where problems were sampled in different ways, or trees are not whole;
    ValueError for the best case of problems that stopped when they were settled: with more
    correct answers they would have stopped earlier.
    """
    if exchangeable(counts):
        n, c = np.array([[one.n, one.correct] for one in counts]).T
        if best_case:
            c = c + np.array([one.truncated + one.unparsable for one in counts])
        return stats.pass_at_k(n[:, None], c[:, None], np.array(ks))
    if any(one.stages for one in counts):
        if best_case:
            raise ValueError("there is no best case of samples whose number depends on them")
        n, c = np.array([[one.n, one.correct] for one in counts]).T
        return _design(counts).pass_at_k(n, c, np.array(ks))
    if all(one.trees for one in counts):
        size, places = _trees(counts, best_case)
        return stats.pass_at_k_trees(places, size, np.array(ks))
    n, c = _strata(counts, best_case)
    dealt = np.array([stats.deal(k, n.shape[1]) for k in ks])
    return stats.pass_at_k_stratified(n[:, None, :], c[:, None, :], dealt)


def exact_pass_at(p: Floats, ks: Sequence[int]) -> Floats:
    """Shape (problems, ks), from probabilities of shape (problems,) or (problems, strata)."""
    if p.ndim == 1:
        return stats.exact_pass_at_k(p[:, None], np.array(ks))
    dealt = np.array([stats.deal(k, p.shape[1]) for k in ks])
    return stats.exact_pass_at_k_stratified(p[:, None, :], dealt)


def agreement(counts: Sequence[ProblemCounts], n: int, p: Floats, ks: Sequence[int]) -> Agreement:
    """Of the counts with exact probabilities of shape (problems,) or (problems, strata)."""
    if any(one.stages for one in counts):
        seen, c = np.array([[one.n, one.correct] for one in counts]).T
        return stats.agreement_of_design(_design(counts), seen, c, p, ks)
    correct = np.array([one.correct for one in counts]) if p.ndim == 1 else _strata(counts)[1]
    return stats.agreement(correct, n, p, ks)


def _design(counts: Sequence[ProblemCounts]) -> stats.Design:
    rules = {(one.stages, one.enough) for one in counts}
    if len(rules) != 1:
        raise InvalidResult("problems were sampled under different stopping rules; sample again")
    ((stages, enough),) = rules
    return stats.Design(stages, enough)


def _strata(
    counts: Sequence[ProblemCounts], best_case: bool = False
) -> tuple[stats.Counts, stats.Counts]:
    """Samples and correct ones, each of shape (problems, strata)."""
    names = sorted({stratum for one in counts for stratum in one.strata})
    if any(sorted(one.strata) != names for one in counts):
        raise InvalidResult("problems were sampled through different strata; sample them again")
    rows = np.array([[one.strata[name] for name in names] for one in counts], dtype=np.int64)
    return rows[..., 0], rows[..., 1] + (rows[..., 2] if best_case else 0)


def _trees(counts: Sequence[ProblemCounts], best_case: bool) -> tuple[int, stats.Counts]:
    """The size of every tree, and the places of their first correct samples, of shape
    (problems, trees)."""
    sizes = {size for one in counts for size, _, _ in one.trees.values()}
    if len(sizes) != 1 or len({len(one.trees) for one in counts}) != 1:
        raise InvalidResult(f"trees of {sorted(sizes)} samples: they are not whole; sample again")
    (size,) = sizes
    places = [[tree[1 + best_case] for tree in one.trees.values()] for one in counts]
    none = [[size if place is None else place for place in row] for row in places]
    return size, np.array(none, dtype=np.int64)
