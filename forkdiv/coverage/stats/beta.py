"""A rival of the coverage law: problems whose chances of a correct sample are beta-distributed.

Then pass@K = E[1 - (1-p)^K] = 1 - B(alpha, beta+K) / B(alpha, beta), and the counts of correct
samples are beta-binomial, so that alpha and beta are found by maximum likelihood. Unlike the law it
uses how the counts spread, and fits problems that are all alike. Like the law it knows no problem
that cannot be solved at all: every p is above 0, and pass@K goes to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, polygamma, psi

from forkdiv.coverage.stats.checked import Counts, Floats

BOUNDS = (-8.0, 8.0)  # of log alpha and log beta: beyond them all p are alike, or each is 0 or 1


@dataclass(frozen=True)
class BetaRates:
    """alpha and beta of all problems, and after it those of each replicate."""

    alpha: Floats
    beta: Floats

    def at(self, k: int) -> Floats:
        """pass@k, for all problems and each replicate."""
        none = betaln(self.alpha, self.beta + k) - betaln(self.alpha, self.beta)
        return np.asarray(-np.expm1(none))


def beta_rates(n: int, correct: Counts, weights: Floats) -> BetaRates:
    """Fitted to `correct` of `n` samples of each problem; `weights` are bootstrap replicates,
    shape (replicates, problems).

    The replicates are one Newton step from the estimate, with the weighted score and the
    curvature of all problems: to first order the bootstrap of the estimate, at the price of
    a product of matrices.
    """
    counts, where, times = np.unique(correct, return_inverse=True, return_counts=True)

    def loss(logs: Floats) -> tuple[float, Floats]:
        alpha, beta = np.exp(logs)
        each = betaln(counts + alpha, n - counts + beta) - betaln(alpha, beta)
        return -float(times @ each) / len(correct), -(times @ _score(n, counts, logs)) / len(
            correct
        )

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[BOUNDS, BOUNDS])
    logs = np.asarray(found.x)
    information = -np.tensordot(times / len(correct), _curvature(n, counts, logs), 1)
    # where a direction is all but flat, such as the spread of chances that are alike, it stays
    steps = weights @ _score(n, counts, logs)[where] @ np.linalg.pinv(information, 1e-6)
    alphas, betas = np.exp(np.clip(np.vstack([logs, logs + steps]), *BOUNDS)).T
    return BetaRates(alphas, betas)


def _score(n: int, counts: Counts, logs: Floats) -> Floats:
    """Derivative of the log likelihood in log alpha and log beta; shape (counts, 2)."""
    alpha, beta = np.exp(logs)
    both = psi(alpha + beta) - psi(n + alpha + beta)
    by_alpha = alpha * (psi(counts + alpha) - psi(alpha) + both)
    by_beta = beta * (psi(n - counts + beta) - psi(beta) + both)
    return np.stack([by_alpha, by_beta], axis=1)


def _curvature(n: int, counts: Counts, logs: Floats) -> Floats:
    """Second derivatives, in the same; shape (counts, 2, 2)."""
    alpha, beta = np.exp(logs)
    both = polygamma(1, alpha + beta) - polygamma(1, n + alpha + beta)
    score = _score(n, counts, logs)
    by_alpha = alpha**2 * (polygamma(1, counts + alpha) - polygamma(1, alpha) + both)
    by_beta = beta**2 * (polygamma(1, n - counts + beta) - polygamma(1, beta) + both)
    mixed = np.full(len(counts), alpha * beta * both)
    rows = [[by_alpha + score[:, 0], mixed], [mixed, by_beta + score[:, 1]]]
    return np.moveaxis(np.array(rows), 2, 0)
