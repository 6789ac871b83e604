"""Statistics of coverage: pass@k, intervals and related estimates. Uses numpy and scipy only."""

from forkdiv.coverage.stats.agreement import Agreement, agreement, agreement_of_design
from forkdiv.coverage.stats.beta import BetaRates, beta_rates
from forkdiv.coverage.stats.checked import Counts, Floats
from forkdiv.coverage.stats.diversity import distinct_at_k, entropy
from forkdiv.coverage.stats.estimators import (
    deal,
    exact_pass_at_k,
    exact_pass_at_k_stratified,
    pass_at_k,
    pass_at_k_stratified,
    pass_at_k_trees,
)
from forkdiv.coverage.stats.intervals import (
    Interval,
    Limits,
    bootstrap_weights,
    mean_intervals,
    paired_differences,
    wilson,
)
from forkdiv.coverage.stats.law import Heldout, Law, Rival, law
from forkdiv.coverage.stats.majority import majority_at_k
from forkdiv.coverage.stats.reliability import cover_at, g_pass_at_k, mg_pass_at_k
from forkdiv.coverage.stats.sequential import Design, doubling
from forkdiv.coverage.stats.shrinkage import NO_CHANGE, Changed, Crossing, changed, crossing

__all__ = [
    "NO_CHANGE",
    "Agreement",
    "BetaRates",
    "Changed",
    "Counts",
    "Crossing",
    "Design",
    "Floats",
    "Heldout",
    "Interval",
    "Law",
    "Limits",
    "Rival",
    "agreement",
    "agreement_of_design",
    "beta_rates",
    "bootstrap_weights",
    "changed",
    "cover_at",
    "crossing",
    "deal",
    "distinct_at_k",
    "doubling",
    "entropy",
    "exact_pass_at_k",
    "exact_pass_at_k_stratified",
    "g_pass_at_k",
    "law",
    "majority_at_k",
    "mean_intervals",
    "mg_pass_at_k",
    "paired_differences",
    "pass_at_k",
    "pass_at_k_stratified",
    "pass_at_k_trees",
    "wilson",
]
