"""pass@k of counted samples, with the estimator for the way they were drawn.

Independent samples are exchangeable. Samples with forced first tokens are exchangeable only within
their stratum, and k draws are assigned to the strata round-robin. Samples of fork-stratified
sampling depend on each other within their tree. With early stopping, the number of samples of a
problem depends on how many were correct.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forkdiv.core.errors import InvalidResult
from forkdiv.coverage import stats
from forkdiv.coverage.stats import Agreement, Floats
from forkdiv.score.counts import ProblemCounts


def exchangeable(counts: Sequence[ProblemCounts]) -> bool:
    """Returns whether all samples of a problem are exchangeable."""
    return not any(problem.strata or problem.trees or problem.stages for problem in counts)


def pass_at(counts: Sequence[ProblemCounts], ks: Sequence[int], best_case: bool = False) -> Floats:
    """Returns pass@k of each problem, of shape (problems, ks). `best_case` counts every truncated
    or unparsable response as correct.

    Raises InvalidResult if problems were sampled in different ways, or trees are incomplete;
    ValueError for the best case with early stopping: with more correct responses, sampling would
    have stopped earlier.
    """
    if exchangeable(counts):
        n, c = np.array([[problem.n, problem.correct] for problem in counts]).T
        if best_case:
            c = c + np.array([problem.truncated + problem.unparsable for problem in counts])
        return stats.pass_at_k(n[:, None], c[:, None], np.array(ks))
    if any(problem.stages for problem in counts):
        if best_case:
            raise ValueError("the best case is undefined for samples drawn with early stopping")
        n, c = np.array([[problem.n, problem.correct] for problem in counts]).T
        return _design(counts).pass_at_k(n, c, np.array(ks))
    if all(problem.trees for problem in counts):
        size, places = _trees(counts, best_case)
        return stats.pass_at_k_trees(places, size, np.array(ks))
    n, c = _strata(counts, best_case)
    dealt = np.array([stats.deal(k, n.shape[1]) for k in ks])
    return stats.pass_at_k_stratified(n[:, None, :], c[:, None, :], dealt)


def exact_pass_at(p: Floats, ks: Sequence[int]) -> Floats:
    """Returns pass@k of shape (problems, ks) from probabilities of shape (problems,) or
    (problems, strata)."""
    if p.ndim == 1:
        return stats.exact_pass_at_k(p[:, None], np.array(ks))
    dealt = np.array([stats.deal(k, p.shape[1]) for k in ks])
    return stats.exact_pass_at_k_stratified(p[:, None, :], dealt)


def agreement(counts: Sequence[ProblemCounts], n: int, p: Floats, ks: Sequence[int]) -> Agreement:
    """Compares counts with exact probabilities of shape (problems,) or (problems, strata)."""
    if any(problem.stages for problem in counts):
        n_drawn, c = np.array([[problem.n, problem.correct] for problem in counts]).T
        return stats.agreement_of_design(_design(counts), n_drawn, c, p, ks)
    correct = (
        np.array([problem.correct for problem in counts]) if p.ndim == 1 else _strata(counts)[1]
    )
    return stats.agreement(correct, n, p, ks)


def _design(counts: Sequence[ProblemCounts]) -> stats.Design:
    rules = {(problem.stages, problem.enough) for problem in counts}
    if len(rules) != 1:
        raise InvalidResult(
            "problems were sampled with different stopping rules; draw the samples again"
        )
    ((stages, enough),) = rules
    return stats.Design(stages, enough)


def _strata(
    counts: Sequence[ProblemCounts], best_case: bool = False
) -> tuple[stats.Counts, stats.Counts]:
    """Returns the number of samples and of correct samples, each of shape (problems, strata)."""
    names = sorted({stratum for problem in counts for stratum in problem.strata})
    if any(sorted(problem.strata) != names for problem in counts):
        raise InvalidResult("problems were sampled with different strata; draw the samples again")
    rows = np.array(
        [[problem.strata[name] for name in names] for problem in counts], dtype=np.int64
    )
    return rows[..., 0], rows[..., 1] + (rows[..., 2] if best_case else 0)


def _trees(counts: Sequence[ProblemCounts], best_case: bool) -> tuple[int, stats.Counts]:
    """Returns the tree size, and the index of the first correct sample of each tree (the tree
    size if there is none), of shape (problems, trees)."""
    sizes = {size for problem in counts for size, _, _ in problem.trees.values()}
    if len(sizes) != 1 or len({len(problem.trees) for problem in counts}) != 1:
        raise InvalidResult(
            f"trees of samples are incomplete: sizes {sorted(sizes)}; draw the samples again"
        )
    (size,) = sizes
    places = [[tree[1 + best_case] for tree in problem.trees.values()] for problem in counts]
    first_correct = [[size if place is None else place for place in row] for row in places]
    return size, np.array(first_correct, dtype=np.int64)
