"""A cell: pass@k of one checkpoint under one decoder, against the base under the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv import coverage
from forkdiv.config import EvalConfig
from forkdiv.coverage import Floats
from forkdiv.errors import InvalidResult
from forkdiv.tally import ProblemCounts

ALL = "all"


def cells(
    knobs: dict[str, Any],
    counts: Sequence[ProblemCounts],
    base: Sequence[ProblemCounts] | None,
    exact: Floats | None,
    config: EvalConfig,
) -> list[dict[str, Any]]:
    """One cell per subset and one for all, as plain JSON values.

    `knobs` (tuned, the data axes, temperature, seed) name the cells. `base` has the same
    problems in the same order; None where these are the base's own cells. A cell with an error
    verdict on either side is invalid and carries no numbers.
    """
    if base is not None and [c.problem_id for c in base] != [c.problem_id for c in counts]:
        raise InvalidResult("base and tuned were sampled on different problems")
    subsets = list(dict.fromkeys(one.subset for one in counts))
    subsets = [*subsets, ALL] if len(subsets) > 1 else [ALL]  # one part is the whole
    return [_cell(knobs, subset, counts, base, exact, config) for subset in subsets]


def _cell(
    knobs: dict[str, Any],
    subset: str,
    counts: Sequence[ProblemCounts],
    base: Sequence[ProblemCounts] | None,
    exact: Floats | None,
    config: EvalConfig,
) -> dict[str, Any]:
    rows = [i for i, one in enumerate(counts) if subset in (ALL, one.subset)]
    mine = [counts[i] for i in rows]
    theirs = [base[i] for i in rows] if base is not None else None
    errors = sum(one.error for one in [*mine, *(theirs or [])])
    cell: dict[str, Any] = {
        **knobs,
        "subset": subset,
        "n_problems": len(mine),
        "n_samples": config.samples,
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
    }
    if errors:
        return cell
    values = _pass_at(mine, config.ks)
    weights = coverage.bootstrap_weights(
        [one.subset for one in mine], config.bootstrap, config.seed
    )
    means = coverage.mean_intervals(values, weights, config.confidence)
    cell["pass_at"] = _by_k(config.ks, means)
    cell["modes"] = _by_mode(mine, config.ks)
    cell["best_case_pass_at"] = {
        str(k): float(mean)
        for k, mean in zip(config.ks, _pass_at(mine, config.ks, True).mean(0), strict=True)
    }
    if theirs is not None:
        difference = coverage.paired_differences(
            values, _pass_at(theirs, config.ks), weights, config.confidence
        )
        cell["delta_to_base"] = _by_k(config.ks, difference)
    if exact is not None:
        p = exact[rows]
        known = coverage.exact_pass_at_k(p[:, None], np.array(config.ks)).mean(0)
        cell["exact_pass_at"] = {
            str(k): float(value) for k, value in zip(config.ks, known, strict=True)
        }
        correct = np.array([one.correct for one in mine])
        cell["agreement"] = asdict(coverage.agreement(correct, config.samples, p, config.ks))
    return cell


def _pass_at(
    counts: Sequence[ProblemCounts], ks: Sequence[int], best_case: bool = False
) -> NDArray[np.float64]:
    """Shape (problems, ks). In the best case every cut-off or unreadable answer was correct."""
    n = np.array([one.n for one in counts])
    c = np.array([one.correct for one in counts])
    if best_case:
        c = c + np.array([one.truncated + one.unparsable for one in counts])
    return coverage.pass_at_k(n[:, None], c[:, None], np.array(ks))


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
                    "value": float(coverage.pass_at_k(n[has], c[has], np.array(k)).mean()),
                    "problems": int(has.sum()),
                }
                for k, has in enough.items()
            },
        }
    return found


def _by_k(ks: Sequence[int], intervals: Sequence[coverage.Interval]) -> dict[str, dict[str, float]]:
    return {str(k): asdict(interval) for k, interval in zip(ks, intervals, strict=True)}
