"""Cover@tau, G-Pass@k and mG-Pass@k of a cell, from its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from forkdiv.core.config.evaluation import EvalConfig
from forkdiv.coverage import stats
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

G_PASS_FROM = 0.5  # the paper reports G-Pass@k for tau from 0.5 to 1

Estimator = Callable[[int, stats.Counts], Floats]  # of n samples and the counts of right ones
Limits = Callable[[Floats], Sequence[stats.Interval]]


def cover_name(tau: float) -> str:
    return f"cover@{tau:g}"


def g_pass_name(k: int, tau: float) -> str:
    return f"g-pass@{k}_{tau:g}"


def mg_pass_name(k: int) -> str:
    return f"mg-pass@{k}"


def names(config: EvalConfig) -> list[str]:
    """Returns the names of all metrics of reliability that the config asks for."""
    return [name for family in _families(config) for name in family]


def values(counts: Sequence[ProblemCounts], config: EvalConfig) -> list[dict[str, Floats]]:
    """Returns the families of metrics; each maps a name to the values of the problems, of shape
    (problems,). The samples of a problem must be exchangeable."""
    n, correct = config.samples, np.array([problem.correct for problem in counts])
    return [
        {name: compute(n, correct) for name, compute in family.items()}
        for family in _families(config)
    ]


def intervals(
    families: Sequence[Mapping[str, Floats]], limits: Limits
) -> dict[str, stats.Interval]:
    """Returns the mean over the problems of each metric by name, with limits. Simultaneous limits
    are those of one family."""
    result: dict[str, stats.Interval] = {}
    for family in families:
        result |= dict(zip(family, limits(np.stack(list(family.values()), axis=1)), strict=True))
    return result


def _families(config: EvalConfig) -> list[dict[str, Estimator]]:
    """Returns the estimators by name, in families of which each has simultaneous limits."""
    taus, ks = config.taus, [k for k in config.ks if k > 1]  # G-Pass@1 is pass@1
    cover: dict[str, Estimator] = {
        cover_name(tau): partial(stats.cover_at, tau=tau) for tau in taus
    }
    g_pass: list[dict[str, Estimator]] = [
        {g_pass_name(k, tau): partial(stats.g_pass_at_k, k=k, tau=tau) for k in ks}
        for tau in taus
        if tau >= G_PASS_FROM
    ]
    mg_pass: dict[str, Estimator] = {mg_pass_name(k): partial(stats.mg_pass_at_k, k=k) for k in ks}
    return [family for family in (cover, *g_pass, mg_pass) if family]
