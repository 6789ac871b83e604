"""A cell: pass@k of one checkpoint with one decoder, compared with the base."""

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
from forkdiv.coverage import beside_pass_at_k, estimate, fork_summary, lost_problems, stats
from forkdiv.coverage.beside_pass_at_k import Comparison, by_k
from forkdiv.coverage.fork_summary import ForkProbabilities
from forkdiv.coverage.stats import Floats
from forkdiv.score.counts import ProblemCounts

ALL = "all"
# Fields that were added later: a cell that has no value for them is written as it was before.
LATER = {
    "metrics",
    "metrics_delta",
    "majority_limits",
    "majority_delta",
    "reliability",
    "reliability_delta",
    "guess",
    "paired_counts",
}


@dataclass(frozen=True)
class CellInputs:
    """Per-problem results of one checkpoint with one decoder.

    `base` has the counts of the base for the same problems in the same order, or None if `counts`
    are those of the base. `exact` has the exact probabilities of a correct response, if known.
    `prompts` are shown with the lost and gained problems; without them these are only counted.
    `forks` always covers all problems; `rows` are the indices of the problems that the other
    fields cover (None: all).
    """

    counts: Sequence[ProblemCounts]
    base: Sequence[ProblemCounts] | None = None
    exact: Floats | None = None
    prompts: Sequence[str] = ()
    forks: ForkProbabilities | None = None
    rows: Sequence[int] | None = None

    def select(self, rows: Sequence[int], with_prompts: bool = True) -> CellInputs:
        """Returns the inputs restricted to the problems `rows`."""
        return CellInputs(
            [self.counts[i] for i in rows],
            None if self.base is None else [self.base[i] for i in rows],
            None if self.exact is None else self.exact[list(rows)],
            [self.prompts[i] for i in rows] if self.prompts and with_prompts else (),
            self.forks,
            rows,
        )


def cells(name: CellName, inputs: CellInputs, config: EvalConfig) -> list[Cell]:
    """Returns one cell for each subset and one for all problems.

    A cell with an error verdict of base or tuned is invalid and has no values. Raises
    InvalidResult if base and tuned were sampled on different problems.
    """
    if inputs.base is not None:
        _require_equal_problems(inputs.counts, inputs.base)
    counts = inputs.counts
    return [
        _cell(name, subset, inputs.select(_rows(counts, subset), subset == ALL), config)
        for subset in _subsets(counts)
    ]


def mean_pass_at(
    counts: Sequence[ProblemCounts], config: EvalConfig
) -> dict[str, dict[str, float]]:
    """Returns pass@k by subset and k. Subsets with an error verdict are left out."""
    out = {}
    for subset in _subsets(counts):
        part = [counts[i] for i in _rows(counts, subset)]
        if not any(problem.error for problem in part):
            values = estimate.pass_at(part, config.ks).mean(0)
            out[subset] = {str(k): float(v) for k, v in zip(config.ks, values, strict=True)}
    return out


def _subsets(counts: Sequence[ProblemCounts]) -> list[str]:
    names = list(dict.fromkeys(problem.subset for problem in counts))
    return [*names, ALL] if len(names) > 1 else [ALL]  # a single subset equals ALL


def _rows(counts: Sequence[ProblemCounts], subset: str) -> list[int]:
    return [i for i, problem in enumerate(counts) if subset in (ALL, problem.subset)]


def _require_equal_problems(counts: Sequence[ProblemCounts], base: Sequence[ProblemCounts]) -> None:
    tuned_ids, base_ids = ([problem.problem_id for problem in side] for side in (counts, base))
    if tuned_ids != base_ids:
        different = sorted(set(tuned_ids) ^ set(base_ids))
        detail = (
            f"{len(different)} not in both: {', '.join(different[:5])}"
            if different
            else "in a different order"
        )
        raise InvalidResult(
            f"base and tuned were sampled on different problems: got {detail}; allowed: the same "
            "problems in the same order; sample both with the same task and eval settings"
        )


def _cell(name: CellName, subset: str, inputs: CellInputs, config: EvalConfig) -> Cell:
    counts = inputs.counts
    errors = sum(problem.error for problem in [*counts, *(inputs.base or [])])
    unknown: dict[int, Interval | None] = dict.fromkeys(config.ks)
    measured = Measured(pass_at=unknown) if errors else _measure(inputs, config)
    drawn = sum(problem.n for problem in counts)
    unread = sum(problem.truncated + problem.unparsable for problem in counts)
    return Cell.model_validate(
        {
            **name.as_json(),
            "subset": subset,
            "n_problems": len(counts),
            "n_samples": config.samples,
            "n_drawn": drawn,
            "truncated": sum(problem.truncated for problem in counts),
            "unparsable": sum(problem.unparsable for problem in counts),
            "errors": errors,
            "valid": errors == 0,
            "lost": _wrong_reasons(counts),
            **_present_fields(measured),
            **_same_samples(counts),
            **_truncated_thinking(counts),
            "readable": 1 - unread / drawn,
        }
    )


def _truncated_thinking(counts: Sequence[ProblemCounts]) -> dict[str, int]:
    """Returns the number of samples that were cut off inside their thinking; empty without any, as
    for models without thinking."""
    total = sum(problem.truncated_thinking for problem in counts)
    return {"truncated_thinking": total} if total else {}


def _same_samples(counts: Sequence[ProblemCounts]) -> dict[str, int]:
    """Returns the number of problems whose samples are all the same response; empty if it is
    unknown, for counts of older versions and for single samples."""
    known = [problem.alike for problem in counts if problem.alike is not None]
    return {"same_samples": sum(known)} if len(known) == len(counts) else {}


def _present_fields(measured: Measured) -> dict[str, Any]:
    """Returns all fields, without those of `LATER` that are empty: a summary is written with
    exactly the fields that were passed to it."""
    return {name: value for name, value in dict(measured).items() if value or name not in LATER}


def _measure(inputs: CellInputs, config: EvalConfig) -> Measured:
    tuned, base, ks = inputs.counts, inputs.base, config.ks
    strata = [problem.subset for problem in tuned]
    weights = stats.bootstrap_weights(strata, config.bootstrap, config.seed)
    values = estimate.pass_at(tuned, ks)
    delta, shrinkage = ({}, None) if base is None else _change(inputs, values, weights, config)
    exact, agreement = ({}, None) if inputs.exact is None else _exact(inputs, config)
    forks = None if inputs.forks is None else _forks(inputs, weights, config)
    law, no_law = _law(tuned, weights, config)
    # distinct solutions, modes and the metrics beside pass@k need exchangeable samples
    any_k = estimate.exchangeable(tuned)
    distinct, distinct_delta = _distinct(tuned, base, weights, config) if any_k else ({}, {})
    bands = stats.mean_intervals(values, weights, config.confidence, strata)
    beside: dict[str, Any] = {}
    if any_k:
        base_values = None if base is None else estimate.pass_at(base, ks)
        comparison = Comparison(tuned, base, weights, config)
        beside = beside_pass_at_k.measure(comparison, values, base_values)
    return Measured(
        modes=_by_mode(tuned, ks) if any_k else {},
        pass_at=dict(by_k(ks, bands)),
        delta_to_base=delta,
        best_case_pass_at=_best_case(tuned, ks),
        exact_pass_at=exact,
        agreement=agreement,
        distinct_at=distinct,
        distinct_delta=distinct_delta,
        valid_solutions=_mean_valid_solutions(tuned),
        forks=forks,
        law=law,
        no_law=no_law,
        shrinkage=shrinkage,
        **beside,
    )


def _change(
    inputs: CellInputs, values: Floats, weights: Floats, config: EvalConfig
) -> tuple[dict[int, Interval], Shrinkage]:
    """Returns the paired change to the base, and the coverage shrinkage."""
    tuned, base, ks = inputs.counts, inputs.base, config.ks
    assert base is not None
    base_values = estimate.pass_at(base, ks)
    strata = [problem.subset for problem in tuned]
    bands = stats.paired_differences(values, base_values, weights, config.confidence, strata)
    shrinkage = lost_problems.shrinkage_of(
        tuned, base, inputs.prompts, ks, (values, base_values), weights, config.confidence, bands
    )
    return by_k(ks, bands), shrinkage


def _exact(inputs: CellInputs, config: EvalConfig) -> tuple[dict[int, float], Agreement]:
    assert inputs.exact is not None
    values = estimate.exact_pass_at(inputs.exact, config.ks).mean(0)
    comparison = estimate.agreement(inputs.counts, config.samples, inputs.exact, config.ks)
    return _floats(config.ks, values), Agreement(**asdict(comparison))


def _forks(inputs: CellInputs, weights: Floats, config: EvalConfig) -> AtForks:
    assert inputs.forks is not None
    rows = range(len(inputs.counts)) if inputs.rows is None else inputs.rows
    return fork_summary.at_forks(inputs.forks, rows, config.ks, weights, config.confidence)


def _best_case(counts: Sequence[ProblemCounts], ks: Sequence[int]) -> dict[int, float]:
    """Returns pass@k if every truncated or unparsable response were correct. Empty if the number
    of samples depends on how many were correct."""
    if any(problem.stages for problem in counts):
        return {}
    return _floats(ks, estimate.pass_at(counts, ks, True).mean(0))


def _law(
    counts: Sequence[ProblemCounts], weights: Floats, config: EvalConfig
) -> tuple[Law | None, str]:
    """Returns the coverage law, or None and the reason."""
    if not estimate.exchangeable(counts):
        return None, "the samples of a problem were not drawn independently"
    correct = [problem.correct for problem in counts]
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
    """Returns distinct solutions among k samples, and their change to the base (empty without
    one)."""

    def spread(values: Floats) -> dict[int, Interval]:
        return _unbounded_intervals(config.ks, values, weights, config.confidence)

    def distinct(counts: Sequence[ProblemCounts]) -> Floats:
        return stats.distinct_at_k(
            config.samples, [problem.solutions for problem in counts], config.ks
        )

    values = distinct(tuned)
    return spread(values), {} if base is None else spread(values - distinct(base))


def _mean_valid_solutions(counts: Sequence[ProblemCounts]) -> float | None:
    valid_counts = [problem.valid for problem in counts if problem.valid is not None]
    return float(np.mean(valid_counts)) if len(valid_counts) == len(counts) else None


def _unbounded_intervals(
    ks: Sequence[int], values: Floats, weights: Floats, confidence: float
) -> dict[int, Interval]:
    """Returns means over problems of values without an upper bound, with percentile bootstrap
    limits."""
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(weights @ values, [tail, 100 - tail], axis=0)
    rows = zip(ks, values.mean(0), low, high, strict=True)
    return {
        k: Interval(value=float(mean), low=float(below), high=float(above))
        for k, mean, below, above in rows
    }


def _floats(ks: Sequence[int], values: Floats) -> dict[int, float]:
    return {k: float(value) for k, value in zip(ks, values, strict=True)}


def _wrong_reasons(counts: Sequence[ProblemCounts]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for problem in counts:
        total.update(problem.wrong_by)
    return dict(sorted(total.items()))


def _by_mode(counts: Sequence[ProblemCounts], ks: Sequence[int]) -> dict[str, Mode]:
    """Returns the share and pass@k of each response mode.

    pass@k of a mode is the mean over problems with at least k samples of that mode. For a fixed
    number of them, these samples are exchangeable draws of the model's responses in that mode, so
    the usual estimator is unbiased for them.
    """
    samples = sum(problem.n for problem in counts)
    modes = {}
    for mode in sorted({mode for problem in counts for mode in problem.by_mode}):
        n, c = np.array([problem.by_mode.get(mode, (0, 0)) for problem in counts]).T
        enough_samples = {k: n >= k for k in ks if (n >= k).any()}
        modes[mode] = Mode(
            share=float(n.sum() / samples),
            pass_at={
                k: ModeValue(
                    value=float(stats.pass_at_k(n[has], c[has], np.array(k)).mean()),
                    problems=int(has.sum()),
                )
                for k, has in enough_samples.items()
            },
        )
    return modes
