"""A cell: pass@k of one checkpoint under one decoder, against the base under the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from forkdiv.core.config.study import EvalConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.coverage import estimate, fork_summary, lost_problems, stats
from forkdiv.coverage.fork_summary import ForkProbabilities
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


def cells(knobs: Mapping[str, Any], found: Findings, config: EvalConfig) -> list[dict[str, Any]]:
    """One cell per subset and one for all, as plain JSON values.

    `knobs` (tuned, epoch, the data axes, temperature, seed) name the cells. A cell with an error
    verdict on either side is invalid and carries no numbers. Raises InvalidResult where base
    and tuned were sampled on different problems.
    """
    if found.base is not None:
        _require_equal_problems(found.counts, found.base)
    return [
        _cell(knobs, subset, found.of(_rows(found.counts, subset), subset == ALL), config)
        for subset in _subsets(found.counts)
    ]


def means(counts: Sequence[ProblemCounts], config: EvalConfig) -> dict[str, dict[str, float]]:
    """pass@k alone, by subset and k; a subset with an error in it is left out."""
    out = {}
    for subset in _subsets(counts):
        mine = [counts[i] for i in _rows(counts, subset)]
        if not any(one.error for one in mine):
            out[subset] = _numbers(config.ks, estimate.pass_at(mine, config.ks).mean(0))
    return out


def _subsets(counts: Sequence[ProblemCounts]) -> list[str]:
    found = list(dict.fromkeys(one.subset for one in counts))
    return [*found, ALL] if len(found) > 1 else [ALL]  # one part is the whole


def _rows(counts: Sequence[ProblemCounts], subset: str) -> list[int]:
    return [i for i, one in enumerate(counts) if subset in (ALL, one.subset)]


def _require_equal_problems(counts: Sequence[ProblemCounts], base: Sequence[ProblemCounts]) -> None:
    ours, theirs = ([one.problem_id for one in some] for some in (counts, base))
    if ours != theirs:
        apart = sorted(set(ours) ^ set(theirs))
        named = f"{len(apart)} in one only: {', '.join(apart[:5])}" if apart else "in another order"
        raise InvalidResult(f"base and tuned were sampled on different problems ({named})")


def _cell(
    knobs: Mapping[str, Any], subset: str, found: Findings, config: EvalConfig
) -> dict[str, Any]:
    mine, theirs = found.counts, found.base
    errors = sum(one.error for one in [*mine, *(theirs or [])])
    cell: dict[str, Any] = {
        **knobs,
        "subset": subset,
        "n_problems": len(mine),
        "n_samples": config.samples,
        "n_drawn": sum(one.n for one in mine),
        "truncated": sum(one.truncated for one in mine),
        "unparsable": sum(one.unparsable for one in mine),
        "errors": errors,
        "valid": errors == 0,
        "lost": _reasons(mine),
        "modes": {},
        "pass_at": {str(k): None for k in config.ks},
        "delta_to_base": {},
        "best_case_pass_at": {},
        "exact_pass_at": {},
        "agreement": None,
        "majority_at": {},
        "distinct_at": {},
        "distinct_delta": {},
        "valid_solutions": None,
        "forks": None,
        "law": None,
        "no_law": "",
        "shrinkage": None,
    }
    return cell if errors else cell | _numbers_of(found, config)


def _numbers_of(found: Findings, config: EvalConfig) -> dict[str, Any]:
    mine, theirs, ks = found.counts, found.base, config.ks
    strata = [one.subset for one in mine]
    weights = stats.bootstrap_weights(strata, config.bootstrap, config.seed)
    values = estimate.pass_at(mine, ks)
    cell: dict[str, Any] = {
        "pass_at": _by_k(ks, stats.mean_intervals(values, weights, config.confidence, strata)),
        "best_case_pass_at": _best_case(mine, ks),
        "valid_solutions": _valid(mine),
        **_law(mine, weights, config),
    }
    if theirs is not None:
        base = estimate.pass_at(theirs, ks)
        difference = stats.paired_differences(values, base, weights, config.confidence, strata)
        cell["delta_to_base"] = _by_k(ks, difference)
        sides, both = (mine, theirs, found.prompts), (values, base)
        cell["shrinkage"] = lost_problems.view(
            *sides, ks, both, weights, config.confidence, difference
        )
    # a vote, distinct solutions and modes are estimated over any k of the samples
    if estimate.exchangeable(mine):
        distinct = _distinct(mine, config)
        cell |= {"modes": _by_mode(mine, ks), "majority_at": _majority(mine, config)}
        cell["distinct_at"] = _spread(ks, distinct, weights, config.confidence)
        if theirs is not None:
            apart = distinct - _distinct(theirs, config)
            cell["distinct_delta"] = _spread(ks, apart, weights, config.confidence)
    if found.exact is not None:
        known = estimate.exact_pass_at(found.exact, ks).mean(0)
        agreed = estimate.agreement(mine, config.samples, found.exact, ks)
        cell |= {"exact_pass_at": _numbers(ks, known), "agreement": asdict(agreed)}
    if found.forks is not None:
        rows = range(len(mine)) if found.rows is None else found.rows
        cell["forks"] = fork_summary.view(found.forks, rows, ks, weights, config.confidence)
    return cell


def _best_case(counts: Sequence[ProblemCounts], ks: Sequence[int]) -> dict[str, float]:
    """Empty where the number of samples depends on how many were correct."""
    if any(one.stages for one in counts):
        return {}
    return _numbers(ks, estimate.pass_at(counts, ks, True).mean(0))


def _law(counts: Sequence[ProblemCounts], weights: Floats, config: EvalConfig) -> dict[str, Any]:
    """The coverage law, or why there is none."""
    if not estimate.exchangeable(counts):
        return {"law": None, "no_law": "the samples of a problem were not drawn independently"}
    correct = [one.correct for one in counts]
    found = stats.law(config.samples, correct, config.predicted, weights, config.confidence)
    if isinstance(found, str):
        return {"law": None, "no_law": found}
    return {"law": asdict(found), "no_law": ""}


def _distinct(counts: Sequence[ProblemCounts], config: EvalConfig) -> Floats:
    return stats.distinct_at_k(config.samples, [one.solutions for one in counts], config.ks)


def _valid(counts: Sequence[ProblemCounts]) -> float | None:
    known = [one.valid for one in counts if one.valid is not None]
    return float(np.mean(known)) if len(known) == len(counts) else None


def _majority(counts: Sequence[ProblemCounts], config: EvalConfig) -> dict[str, float]:
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
) -> dict[str, dict[str, float]]:
    """Means over problems of numbers without a ceiling, with percentile bootstrap limits."""
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(weights @ values, [tail, 100 - tail], axis=0)
    rows = zip(ks, values.mean(0), low, high, strict=True)
    return {
        str(k): {"value": float(mean), "low": float(below), "high": float(above)}
        for k, mean, below, above in rows
    }


def _numbers(ks: Sequence[int], values: Floats) -> dict[str, float]:
    return {str(k): float(value) for k, value in zip(ks, values, strict=True)}


def _reasons(counts: Sequence[ProblemCounts]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one.wrong_by)
    return dict(sorted(total.items()))


def _by_mode(counts: Sequence[ProblemCounts], ks: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Results given how a response is told, over the problems with k samples told that way.

    Given its number, the samples of one mode are exchangeable draws of the model's responses in
    that mode, so the usual estimator holds for them.
    """
    modes = sorted({mode for one in counts for mode in one.by_mode})
    samples = sum(one.n for one in counts)
    found = {}
    for mode in modes:
        n, c = np.array([one.by_mode.get(mode, (0, 0)) for one in counts]).T
        enough = {k: n >= k for k in ks if (n >= k).any()}
        found[mode] = {
            "share": float(n.sum() / samples),
            "pass_at": {
                str(k): {
                    "value": float(stats.pass_at_k(n[has], c[has], np.array(k)).mean()),
                    "problems": int(has.sum()),
                }
                for k, has in enough.items()
            },
        }
    return found


def _by_k(ks: Sequence[int], intervals: Sequence[stats.Interval]) -> dict[str, dict[str, Any]]:
    return {str(k): asdict(interval) for k, interval in zip(ks, intervals, strict=True)}
