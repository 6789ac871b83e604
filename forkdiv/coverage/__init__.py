"""Coverage: pass@k and what follows from it. numpy and scipy only; arrays in, arrays out."""

from forkdiv.coverage.agreement import Agreement, agreement
from forkdiv.coverage.checked import Floats
from forkdiv.coverage.estimators import exact_pass_at_k, pass_at_k
from forkdiv.coverage.intervals import (
    Interval,
    bootstrap_weights,
    mean_intervals,
    paired_differences,
    wilson,
)

__all__ = [
    "Agreement",
    "Floats",
    "Interval",
    "agreement",
    "bootstrap_weights",
    "exact_pass_at_k",
    "mean_intervals",
    "paired_differences",
    "pass_at_k",
    "wilson",
]
