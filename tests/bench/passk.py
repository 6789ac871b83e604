"""pass@k with paired bootstrap limits, against a loop over problems for each replicate."""

from __future__ import annotations

import time

import numpy as np

from forkdiv.coverage.stats import bootstrap_weights, paired_differences, pass_at_k
from tests.bench.row import Row

PROBLEMS, SAMPLES, REPLICATES = 10_000, 64, 2_000
KS = np.unique(np.linspace(1, SAMPLES, 20).astype(int))
LOOPED_REPLICATES = 1  # the loop is timed for these and scaled to all


def measure() -> list[Row]:
    random = np.random.default_rng(0)
    base, tuned = (random.binomial(SAMPLES, random.beta(0.3, 0.3, PROBLEMS)) for _ in range(2))
    started = time.perf_counter()
    weights = bootstrap_weights(["all"] * PROBLEMS, REPLICATES, seed=0)
    ours, theirs = (pass_at_k(SAMPLES, counts[:, None], KS) for counts in (tuned, base))
    paired_differences(ours, theirs, weights, 0.95)
    vectorised = time.perf_counter() - started

    started = time.perf_counter()
    for _ in range(LOOPED_REPLICATES):
        drawn = random.integers(0, PROBLEMS, PROBLEMS)
        for k in KS:
            np.mean([_loop(int(tuned[i]), int(k)) - _loop(int(base[i]), int(k)) for i in drawn])
    looped = (time.perf_counter() - started) * REPLICATES / LOOPED_REPLICATES
    share = f"{LOOPED_REPLICATES} of {REPLICATES} replicates timed and scaled"
    return [
        Row("passk_vs_loop", looped / vectorised, "times faster", f"product per problem, {share}"),
        Row(
            "passk_s", vectorised, "s", f"{PROBLEMS} problems, {len(KS)} k, {REPLICATES} replicates"
        ),
    ]


def _loop(c: int, k: int) -> float:
    """The product form as published with HumanEval."""
    if SAMPLES - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(SAMPLES - c + 1, SAMPLES + 1)))
