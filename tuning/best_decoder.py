"""Compares each model with its best decoder, in addition to the comparison with equal decoders.

Choosing a decoder on the problems that it is evaluated on would overestimate its pass@k. So
decoders and temperatures are chosen on the validation problems, and the models are compared on the
held-out problems. Every model chooses from the same decoders, with equal numbers of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from forkdiv.core.config.study import EvalConfig
from forkdiv.core.results import BestDecoder, Interval
from forkdiv.coverage import stats
from forkdiv.coverage.cells import ALL
from tuning.space import Point
from tuning.trial import TrialResult


def best_decoders(trials: Sequence[TrialResult], config: EvalConfig) -> list[BestDecoder]:
    """Returns one row per tuned model, subset and k (the smallest and the largest): the decoders of
    the base and of the tuned model, and the paired change with its confidence interval. Empty if
    the study has no validation samples, or only one decoder."""
    usable = [trial for trial in trials if trial.choice and trial.passed]
    base = [trial for trial in usable if not trial.point.tuned]
    models: dict[Point, list[TrialResult]] = {}
    for trial in usable:
        if trial.point.tuned:
            models.setdefault(trial.point.without_decoder, []).append(trial)
    if not base or len(usable) == len(base) + len(models):
        return []  # only one decoder per model, so there is no choice
    return [
        row
        for point, tuned in models.items()
        for subset in tuned[0].choice
        for k in sorted({config.ks[0], config.ks[-1]})
        for row in _row(point, subset, k, _measured_alike(base, point), tuned, config)
    ]


def _row(
    point: Point,
    subset: str,
    k: int,
    base: Iterable[TrialResult],
    tuned: Iterable[TrialResult],
    config: EvalConfig,
) -> list[BestDecoder]:
    best_tuned, best_base = _best(tuned, subset, k), _best(base, subset, k)
    if best_tuned is None or best_base is None:
        return []
    rows = [i for i, name in enumerate(best_tuned.subsets) if subset in (ALL, name)]
    strata = [best_tuned.subsets[i] for i in rows]
    weights = stats.bootstrap_weights(strata, config.bootstrap, config.seed)
    passed_tuned, passed_base = (
        np.array(trial.passed[str(k)])[rows, None] for trial in (best_tuned, best_base)
    )
    (interval,) = stats.paired_differences(
        passed_tuned, passed_base, weights, config.confidence, strata
    )
    return [
        BestDecoder(
            axes=point.axes,
            tuned=point.tuned,
            seed=point.seed,
            subset=subset,
            k=k,
            base_temperature=best_base.point.temperature,
            tuned_temperature=best_tuned.point.temperature,
            base_decoder=best_base.point.measured_as,
            tuned_decoder=best_tuned.point.measured_as,
            delta=Interval(value=interval.value, low=interval.low, high=interval.high),
        )
    ]


def _best(trials: Iterable[TrialResult], subset: str, k: int) -> TrialResult | None:
    """Returns the valid trial with the highest pass@k on the validation problems; of equal trials
    the one with the temperature nearest 1."""
    known = [trial for trial in trials if str(k) in trial.choice.get(subset, {})]
    valid = [trial for trial in known if all(cell.valid for cell in trial.cells)]
    return max(
        valid,
        key=lambda trial: (trial.choice[subset][str(k)], -abs(trial.point.temperature - 1)),
        default=None,
    )


def _measured_alike(base: Iterable[TrialResult], model: Point) -> list[TrialResult]:
    """Returns the trials of the base that differ from the model's in the decoder only."""
    measured = model.measured_settings
    return [t for t in base if t.point.without_decoder.measured_settings == measured]
