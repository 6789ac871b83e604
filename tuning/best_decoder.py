"""Each model under the decoder that was best for it: a second view, beside equal decoders.

A decoder that is chosen on the problems it is judged by looks better than it is, so decoders and
their temperatures are chosen on the validation problems and the models compared on the held-out
ones. Every model has the same ones to choose from, and the same number of samples of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np

from forkdiv.core.config.study import EvalConfig
from forkdiv.core.results import BestDecoder, Interval
from forkdiv.coverage import stats
from forkdiv.coverage.cells import ALL
from tuning.space import Point
from tuning.trial import TrialResult


def best_decoders(trials: Sequence[TrialResult], config: EvalConfig) -> list[BestDecoder]:
    """One row per tuned model, subset and k (the smallest and the largest): both decoders,
    and the paired change with its limits. Empty where nothing was sampled for choosing."""
    usable = [trial for trial in trials if trial.choice and trial.passed]
    base = [trial for trial in usable if not trial.point.tuned]
    models: dict[Point, list[TrialResult]] = {}
    for trial in usable:
        if trial.point.tuned:
            models.setdefault(_without_decoder(trial.point), []).append(trial)
    if not base or len(usable) == len(base) + len(models):
        return []  # one decoder each: nothing was chosen
    return [
        row
        for point, tuned in models.items()
        for subset in tuned[0].choice
        for k in sorted({config.ks[0], config.ks[-1]})
        for row in _row(point, subset, k, base, tuned, config)
    ]


def _row(
    point: Point,
    subset: str,
    k: int,
    base: Iterable[TrialResult],
    tuned: Iterable[TrialResult],
    config: EvalConfig,
) -> list[BestDecoder]:
    ours, theirs = _best(tuned, subset, k), _best(base, subset, k)
    if ours is None or theirs is None:
        return []
    rows = [i for i, one in enumerate(ours.subsets) if subset in (ALL, one)]
    strata = [ours.subsets[i] for i in rows]
    weights = stats.bootstrap_weights(strata, config.bootstrap, config.seed)
    own, other = (np.array(one.passed[str(k)])[rows, None] for one in (ours, theirs))
    (band,) = stats.paired_differences(own, other, weights, config.confidence, strata)
    return [
        BestDecoder(
            axes=point.axes,
            tuned=point.tuned,
            seed=point.seed,
            subset=subset,
            k=k,
            base_temperature=theirs.point.temperature,
            tuned_temperature=ours.point.temperature,
            base_decoder=theirs.point.decoder,
            tuned_decoder=ours.point.decoder,
            delta=Interval(value=band.value, low=band.low, high=band.high),
        )
    ]


def _best(trials: Iterable[TrialResult], subset: str, k: int) -> TrialResult | None:
    """The one of highest pass@k on the validation problems; of equals the one nearest 1."""
    known = [one for one in trials if str(k) in one.choice.get(subset, {})]
    valid = [one for one in known if all(cell.valid for cell in one.cells)]
    return max(
        valid,
        key=lambda one: (one.choice[subset][str(k)], -abs(one.point.temperature - 1)),
        default=None,
    )


def _without_decoder(point: Point) -> Point:
    return Point(**{**asdict(point), "temperature": 0.0, "decoder": None})
