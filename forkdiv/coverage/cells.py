"""A cell: pass@k of one checkpoint under one decoder, against the base under the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from forkdiv.core.config.study import EvalConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.results import (
    Agreement,
    AtForks,
    Cell,
    CellName,
    Interval,
    Law,
    Measured,
    Mode,
    ModeValue,
    Shrinkage,
)
from forkdiv.coverage import estimate, fork_summary, lost_problems, stats
from forkdiv.coverage.fork_summary import ForkProbabilities
from forkdiv.coverage.metrics import metrics_of
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

ALL = "all"
# Orders that a mean over problems of majority@k is drawn from: its error is at most 0.0016.
MAJORITY_DRAWS = 100_000


@dataclass(frozen=True)
class Findings:
    """What is known of one checkpoint under one decoder, problem by problem.

    `base` has the same problems in the same order, None where these are the base's own counts;
    `exact` are the probabilities of a correct response, where they are known; `prompts` are shown
    with the problems that were lost or gained, which are only counted without. `forks` are of all
    problems, also where the others are of `rows` of them.
    """

    counts: Sequence[ProblemCounts]
    base: Sequence[ProblemCounts] | None = None
    exact: Floats | None = None
    prompts: Sequence[str] = ()
    forks: ForkProbabilities | None = None
    rows: Sequence[int] | None = None

    def of(self, rows: Sequence[int], named: bool = True) -> Findings:
        """Those of some of the problems; without prompts where they need not be `named`."""
        return Findings(
            [self.counts[i] for i in rows],
            None if self.base is None else [self.base[i] for i in rows],
            None if self.exact is None else self.exact[list(rows)],
            [self.prompts[i] for i in rows] if self.prompts and named else (),
            self.forks,
            rows,
        )


def cells(name: CellName, findings: Findings, config: EvalConfig) -> list[Cell]:
    """One cell per subset and one for all.

    A cell with an error verdict on either side is invalid and carries no numbers. Raises
    InvalidResult where base and tuned were sampled on different problems.
    """
    if findings.base is not None:
        _require_equal_problems(findings.counts, findings.base)
    counts = findings.counts
    return [
        _cell(name, subset, findings.of(_rows(counts, subset), subset == ALL), config)
        for subset in _subsets(counts)
    ]


def means(counts: Sequence[ProblemCounts], config: EvalConfig) -> dict[str, dict[str, float]]:
    """pass@k alone, by subset and k; a subset with an error in it is left out."""
    out = {}
    for subset in _subsets(counts):
        part = [counts[i] for i in _rows(counts, subset)]
        if not any(one.error for one in part):
            values = estimate.pass_at(part, config.ks).mean(0)
            out[subset] = {str(k): float(v) for k, v in zip(config.ks, values, strict=True)}
    return out


def _subsets(counts: Sequence[ProblemCounts]) -> list[str]:
    names = list(dict.fromkeys(one.subset for one in counts))
    return [*names, ALL] if len(names) > 1 else [ALL]  # one part is the whole


def _rows(counts: Sequence[ProblemCounts], subset: str) -> list[int]:
    return [i for i, one in enumerate(counts) if subset in (ALL, one.subset)]


def _require_equal_problems(counts: Sequence[ProblemCounts], base: Sequence[ProblemCounts]) -> None:
    ours, theirs = ([one.problem_id for one in some] for some in (counts, base))
    if ours != theirs:
        apart = sorted(set(ours) ^ set(theirs))
        named = f"{len(apart)} in one only: {', '.join(apart[:5])}" if apart else "in another order"
        raise InvalidResult(f"base and tuned were sampled on different problems ({named})")


def _cell(name: CellName, subset: str, findings: Findings, config: EvalConfig) -> Cell:
    counts = findings.counts
    errors = sum(one.error for one in [*counts, *(findings.base or [])])
    none: dict[int, Interval | None] = dict.fromkeys(config.ks)
    measured = Measured(pass_at=none) if errors else _measured(findings, config)
    return Cell.model_validate(
        {
            **name.as_json(),
            "subset": subset,
            "n_problems": len(counts),
            "n_samples": config.samples,
            "n_drawn": sum(one.n for one in counts),
            "truncated": sum(one.truncated for one in counts),
            "unparsable": sum(one.unparsable for one in counts),
            "errors": errors,
            "valid": errors == 0,
            "lost": _reasons(counts),
            **_written(measured),
        }
    )


def _written(measured: Measured) -> dict[str, Any]:
    """All numbers, and none of registered metrics where none is registered: a summary is written
    with the fields that it was given."""
    fields = dict(measured)
    return fields if measured.metrics else {k: v for k, v in fields.items() if k != "metrics"}


def _measured(findings: Findings, config: EvalConfig) -> Measured:
    tuned, base, ks = findings.counts, findings.base, config.ks
    strata = [one.subset for one in tuned]
    weights = stats.bootstrap_weights(strata, config.bootstrap, config.seed)
    values = estimate.pass_at(tuned, ks)
    delta, shrinkage = ({}, None) if base is None else _change(findings, values, weights, config)
    exact, agreement = ({}, None) if findings.exact is None else _exact(findings, config)
    forks = None if findings.forks is None else _forks(findings, weights, config)
    law, no_law = _law(tuned, weights, config)
    # a vote, distinct solutions and modes are estimated over any k of the samples
    any_k = estimate.exchangeable(tuned)
    distinct, distinct_delta = _distinct(tuned, base, weights, config) if any_k else ({}, {})
    bands = stats.mean_intervals(values, weights, config.confidence, strata)
    metrics = metrics_of(tuned, weights, config) if any_k else {}
    return Measured(
        modes=_by_mode(tuned, ks) if any_k else {},
        pass_at=dict(_by_k(ks, bands)),
        delta_to_base=delta,
        best_case_pass_at=_best_case(tuned, ks),
        exact_pass_at=exact,
        agreement=agreement,
        majority_at=_majority(tuned, config) if any_k else {},
        distinct_at=distinct,
        distinct_delta=distinct_delta,
        valid_solutions=_valid(tuned),
        forks=forks,
        law=law,
        no_law=no_law,
        shrinkage=shrinkage,
        metrics=metrics,
    )


def _change(
    findings: Findings, values: Floats, weights: Floats, config: EvalConfig
) -> tuple[dict[int, Interval], Shrinkage]:
    """The paired change to the base, and what follows from it."""
    tuned, base, ks = findings.counts, findings.base, config.ks
    assert base is not None
    of_base = estimate.pass_at(base, ks)
    strata = [one.subset for one in tuned]
    bands = stats.paired_differences(values, of_base, weights, config.confidence, strata)
    shrinkage = lost_problems.view(
        tuned, base, findings.prompts, ks, (values, of_base), weights, config.confidence, bands
    )
    return _by_k(ks, bands), shrinkage


def _exact(findings: Findings, config: EvalConfig) -> tuple[dict[int, float], Agreement]:
    assert findings.exact is not None
    known = estimate.exact_pass_at(findings.exact, config.ks).mean(0)
    agreed = estimate.agreement(findings.counts, config.samples, findings.exact, config.ks)
    return _numbers(config.ks, known), Agreement(**asdict(agreed))


def _forks(findings: Findings, weights: Floats, config: EvalConfig) -> AtForks:
    assert findings.forks is not None
    rows = range(len(findings.counts)) if findings.rows is None else findings.rows
    return fork_summary.view(findings.forks, rows, config.ks, weights, config.confidence)


def _best_case(counts: Sequence[ProblemCounts], ks: Sequence[int]) -> dict[int, float]:
    """Empty where the number of samples depends on how many were correct."""
    if any(one.stages for one in counts):
        return {}
    return _numbers(ks, estimate.pass_at(counts, ks, True).mean(0))


def _law(
    counts: Sequence[ProblemCounts], weights: Floats, config: EvalConfig
) -> tuple[Law | None, str]:
    """The coverage law, or why there is none."""
    if not estimate.exchangeable(counts):
        return None, "the samples of a problem were not drawn independently"
    correct = [one.correct for one in counts]
    fitted = stats.law(config.samples, correct, config.predicted, weights, config.confidence)
    if isinstance(fitted, str):
        return None, fitted
    return Law.model_validate(asdict(fitted)), ""


def _distinct(
    tuned: Sequence[ProblemCounts],
    base: Sequence[ProblemCounts] | None,
    weights: Floats,
    config: EvalConfig,
) -> tuple[dict[int, Interval], dict[int, Interval]]:
    """Distinct solutions among k samples, and their change to the base where there is one."""

    def spread(values: Floats) -> dict[int, Interval]:
        return _spread(config.ks, values, weights, config.confidence)

    def distinct(counts: Sequence[ProblemCounts]) -> Floats:
        return stats.distinct_at_k(config.samples, [one.solutions for one in counts], config.ks)

    values = distinct(tuned)
    return spread(values), {} if base is None else spread(values - distinct(base))


def _valid(counts: Sequence[ProblemCounts]) -> float | None:
    known = [one.valid for one in counts if one.valid is not None]
    return float(np.mean(known)) if len(known) == len(counts) else None


def _majority(counts: Sequence[ProblemCounts], config: EvalConfig) -> dict[int, float]:
    """The mean over problems; empty where verdicts do not carry answers."""
    # a seed of its own for each problem, or the errors of the draws would not average out
    draws = -(-MAJORITY_DRAWS // len(counts))
    rows = [
        stats.majority_at_k(one.n, one.right_votes, one.wrong_votes, config.ks, draws, seed)
        for seed, one in enumerate(counts)
        if one.right_votes is not None and one.wrong_votes is not None
    ]
    return _numbers(config.ks, np.mean(rows, axis=0)) if len(rows) == len(counts) else {}


def _spread(
    ks: Sequence[int], values: Floats, weights: Floats, confidence: float
) -> dict[int, Interval]:
    """Means over problems of numbers without a ceiling, with percentile bootstrap limits."""
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(weights @ values, [tail, 100 - tail], axis=0)
    rows = zip(ks, values.mean(0), low, high, strict=True)
    return {
        k: Interval(value=float(mean), low=float(below), high=float(above))
        for k, mean, below, above in rows
    }


def _numbers(ks: Sequence[int], values: Floats) -> dict[int, float]:
    return {k: float(value) for k, value in zip(ks, values, strict=True)}


def _reasons(counts: Sequence[ProblemCounts]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one.wrong_by)
    return dict(sorted(total.items()))


def _by_mode(counts: Sequence[ProblemCounts], ks: Sequence[int]) -> dict[str, Mode]:
    """Results given how a response is told, over the problems with k samples told that way.

    Given its number, the samples of one mode are exchangeable draws of the model's responses in
    that mode, so the usual estimator holds for them.
    """
    samples = sum(one.n for one in counts)
    modes = {}
    for mode in sorted({mode for one in counts for mode in one.by_mode}):
        n, c = np.array([one.by_mode.get(mode, (0, 0)) for one in counts]).T
        enough = {k: n >= k for k in ks if (n >= k).any()}
        modes[mode] = Mode(
            share=float(n.sum() / samples),
            pass_at={
                k: ModeValue(
                    value=float(stats.pass_at_k(n[has], c[has], np.array(k)).mean()),
                    problems=int(has.sum()),
                )
                for k, has in enough.items()
            },
        )
    return modes


def _by_k(ks: Sequence[int], intervals: Sequence[stats.Interval]) -> dict[int, Interval]:
    return {k: Interval(**asdict(interval)) for k, interval in zip(ks, intervals, strict=True)}
