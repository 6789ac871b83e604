"""An alternative to the coverage law: beta-distributed probabilities of a correct sample.

Then pass@K = E[1 - (1-p)^K] = 1 - B(alpha, beta+K) / B(alpha, beta), and the counts of correct
samples are beta-binomial, so that alpha and beta are estimated by maximum likelihood. Unlike the
law, the model uses the distribution of the counts, and it also fits problems of equal difficulty.
Like the law, it has no unsolvable problems: every p is above 0, and pass@K approaches 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, polygamma, psi

from forkdiv.coverage.stats.checked import Counts, Floats

BOUNDS = (-8.0, 8.0)  # of log alpha and log beta; beyond, all p are equal, or each is 0 or 1


@dataclass(frozen=True)
class BetaRates:
    """alpha and beta: first the estimate from all problems, then those of the replicates."""

    alpha: Floats
    beta: Floats

    def at(self, k: int) -> Floats:
        """Returns pass@k for all problems, then for each replicate."""
        log_none = betaln(self.alpha, self.beta + k) - betaln(self.alpha, self.beta)
        return np.asarray(-np.expm1(log_none))


def beta_rates(n: int, correct: Counts, weights: Floats) -> BetaRates:
    """Fits alpha and beta to `correct` of `n` samples of each problem.

    `weights` are bootstrap replicates, of shape (replicates, problems). Each replicate is one
    Newton step from the estimate, with its weighted score and the curvature of all problems. To
    first order this equals the bootstrap of the estimate, at the cost of a matrix product.
    """
    counts, index, multiplicity = np.unique(correct, return_inverse=True, return_counts=True)

    def loss(logs: Floats) -> tuple[float, Floats]:
        alpha, beta = np.exp(logs)
        log_likelihood = betaln(counts + alpha, n - counts + beta) - betaln(alpha, beta)
        return -float(multiplicity @ log_likelihood) / len(correct), -(
            multiplicity @ _score(n, counts, logs)
        ) / len(correct)

    optimum = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[BOUNDS, BOUNDS])
    logs = np.asarray(optimum.x)
    information = -np.tensordot(multiplicity / len(correct), _curvature(n, counts, logs), 1)
    # the pseudo-inverse makes no step in an almost flat direction (as when all p are equal)
    steps = weights @ _score(n, counts, logs)[index] @ np.linalg.pinv(information, 1e-6)
    alphas, betas = np.exp(np.clip(np.vstack([logs, logs + steps]), *BOUNDS)).T
    return BetaRates(alphas, betas)


def _score(n: int, counts: Counts, logs: Floats) -> Floats:
    """Returns the gradient of the log-likelihood in (log alpha, log beta), shape (counts, 2)."""
    alpha, beta = np.exp(logs)
    both = psi(alpha + beta) - psi(n + alpha + beta)
    by_alpha = alpha * (psi(counts + alpha) - psi(alpha) + both)
    by_beta = beta * (psi(n - counts + beta) - psi(beta) + both)
    return np.stack([by_alpha, by_beta], axis=1)


def _curvature(n: int, counts: Counts, logs: Floats) -> Floats:
    """Returns the second derivatives in (log alpha, log beta), shape (counts, 2, 2)."""
    alpha, beta = np.exp(logs)
    both = polygamma(1, alpha + beta) - polygamma(1, n + alpha + beta)
    score = _score(n, counts, logs)
    by_alpha = alpha**2 * (polygamma(1, counts + alpha) - polygamma(1, alpha) + both)
    by_beta = beta**2 * (polygamma(1, n - counts + beta) - polygamma(1, beta) + both)
    mixed = np.full(len(counts), alpha * beta * both)
    rows = [[by_alpha + score[:, 0], mixed], [mixed, by_beta + score[:, 1]]]
    return np.moveaxis(np.array(rows), 2, 0)
