"""Each model at the temperature that was best for it: a second view, beside equal temperatures.

A decoder that is chosen on the problems it is judged by looks better than it is, so temperatures
are chosen on the validation problems and the models compared on the held-out ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from forkdiv import coverage
from forkdiv.cell import ALL
from forkdiv.config import EvalConfig
from forkdiv.coverage import Floats
from tuning.space import Point
from tuning.trial import TrialResult


def best_decoders(trials: Sequence[TrialResult], config: EvalConfig) -> list[dict[str, Any]]:
    """One row per tuned model, subset and k (the smallest and the largest): both temperatures,
    and the paired change with its limits. Empty where nothing was sampled for choosing."""
    usable = [trial for trial in trials if trial.choice and len(trial.correct) > 0]
    base = [trial for trial in usable if not trial.point.tuned]
    models: dict[Point, list[TrialResult]] = {}
    for trial in usable:
        if trial.point.tuned:
            models.setdefault(_without_temperature(trial.point), []).append(trial)
    if not base or len(usable) == len(base) + len(models):
        return []  # one temperature each: nothing was chosen
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
) -> list[dict[str, Any]]:
    ours, theirs = _best(tuned, subset, k), _best(base, subset, k)
    if ours is None or theirs is None:
        return []
    rows = [i for i, one in enumerate(ours.subsets) if subset in (ALL, one)]
    strata = [ours.subsets[i] for i in rows]
    weights = coverage.bootstrap_weights(strata, config.bootstrap, config.seed)
    own, other = (_values(one, rows, k, config.samples) for one in (ours, theirs))
    (band,) = coverage.paired_differences(own, other, weights, config.confidence, strata)
    data = {key: value for key, value in asdict(point).items() if key not in ("temperature",)}
    return [
        data
        | {
            "subset": subset,
            "k": k,
            "base_temperature": theirs.point.temperature,
            "tuned_temperature": ours.point.temperature,
            "delta": {"value": band.value, "low": band.low, "high": band.high},
        }
    ]


def _best(trials: Iterable[TrialResult], subset: str, k: int) -> TrialResult | None:
    """The one of highest pass@k on the validation problems; of equals the one nearest 1."""
    known = [one for one in trials if str(k) in one.choice.get(subset, {})]
    valid = [one for one in known if all(cell["valid"] for cell in one.cells)]
    return max(
        valid,
        key=lambda one: (one.choice[subset][str(k)], -abs(one.point.temperature - 1)),
        default=None,
    )


def _values(trial: TrialResult, rows: Sequence[int], k: int, n: int) -> Floats:
    correct = np.array([trial.correct[i] for i in rows])
    return coverage.pass_at_k(n, correct[:, None], np.array([k]))


def _without_temperature(point: Point) -> Point:
    return Point(**{**asdict(point), "temperature": 0.0})
