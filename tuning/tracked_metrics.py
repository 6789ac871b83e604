"""The numbers of a trial's run in MLflow. Names are equal in all runs, so that MLflow can compare
them: a few headline metrics without a prefix, the others in groups, whose prefix ends with a slash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from forkdiv.core.results import AtForks, Cell, Interval
from forkdiv.coverage.cells import ALL
from forkdiv.tracking.events import Value
from tuning.trial import TrialResult

_PASS_AT = re.compile(r"((?!guess/|reliability/).*/)?(delta_)?pass_at_\d+")


def tracked_metrics(cells: Sequence[Cell]) -> dict[str, float]:
    """Returns the flat metrics of a model's cells.

    A metric that a run does not have (the change from the base, for the base itself) is left out
    instead of zero.
    """
    metrics: dict[str, float] = {}
    for cell in cells:
        if cell.subset == ALL:
            metrics |= _ends_of(cell) | _at_forks(cell.forks) | _beside_pass_at_k(cell)
        metrics |= {f"{cell.subset}/{name}": value for name, value in _of_cell(cell).items()}
    return metrics


def headline_metrics(cells: Sequence[Cell]) -> dict[str, float]:
    """Returns pass@k and its change from the base at every k; those of a subset have its name as a
    prefix."""
    metrics: dict[str, float] = {}
    for cell in cells:
        prefix = "" if cell.subset == ALL else f"{cell.subset}_"
        for name, by_k in _pass_at(cell).items():
            metrics |= {f"{prefix}{name}_{k}": value for k, value in by_k.items()}
        metrics[f"{prefix}valid"] = float(cell.valid)
    return metrics


def pass_at_metrics(cells: Sequence[Cell]) -> dict[str, float]:
    """Returns those of `tracked_metrics` that are pass@k of a checkpoint, or its change."""
    metrics = tracked_metrics(cells)
    return {name: value for name, value in metrics.items() if _PASS_AT.fullmatch(name)}


def _ends_of(cell: Cell) -> dict[str, float]:
    return {f"{name}_{k}": by_k[k] for name, by_k in _pass_at(cell).items() for k in _ends(by_k)}


def _of_cell(cell: Cell) -> dict[str, float]:
    numbers: dict[str, Mapping[int, float]] = {
        **_pass_at(cell),
        "distinct_at": _values(cell.distinct_at),
        "exact_pass_at": cell.exact_pass_at,
        "majority_at": cell.majority_at,
        **{f"{name}_at": _values(by_k) for name, by_k in cell.metrics.items()},
    }
    metrics = {f"{name}_{k}": value for name, by_k in numbers.items() for k, value in by_k.items()}
    metrics["readable"] = cell.readable_share
    metrics["truncated"] = cell.truncated
    if cell.truncated_thinking:
        metrics["truncated_thinking"] = cell.truncated_thinking
    metrics["unparsable"] = cell.unparsable
    metrics["errors"] = cell.errors
    metrics["valid"] = float(cell.valid)
    return metrics


def curves(cells: Sequence[Cell], ms: int) -> list[Value]:
    """Returns pass@k and its change from the base as curves over step = k, which MLflow draws; of
    a subset in its group."""
    return [
        Value(f"{_group(cell)}{name}_k", value, ms, k)
        for cell in cells
        for name, by_k in _pass_at(cell).items()
        for k, value in by_k.items()
    ]


def checkpoint_curves(cells: Sequence[Cell], step: int, ms: int) -> list[Value]:
    """Returns pass@k of a saved checkpoint and its change from the base, at the step of training at
    which it was saved: MLflow draws them as curves beside the loss."""
    return [
        Value(f"checkpoints/{_group(cell).replace('/', '_')}{name}_{k}", by_k[k], ms, step)
        for cell in cells
        for name, by_k in _pass_at(cell).items()
        for k in _ends(by_k)
    ]


def effort(result: TrialResult) -> dict[str, float]:
    """Returns the number of drawn samples and their rate; empty if all samples existed."""
    seconds = result.seconds.get("sample", 0.0)
    if not result.drawn or not seconds:
        return {}
    return {
        "sample/drawn": float(result.drawn),
        "sample/mean_samples_per_s": result.drawn / seconds,
    }


def _beside_pass_at_k(cell: Cell) -> dict[str, float]:
    """Returns metrics of reliability and the guess baseline on all problems. Their prefixes end
    with a slash, so that MLflow shows them in groups of their own, apart from pass@k."""
    named = {
        "reliability/": cell.reliability,
        "reliability/delta_": cell.reliability_delta,
        "guess/": {f"pass@{k}": v for k, v in cell.guess.pass_at.items()} if cell.guess else {},
        "guess/above_": {f"pass@{k}": v for k, v in cell.guess.above.items()} if cell.guess else {},
    }
    return {
        f"{group}{name.replace('@', '_at_').replace('-', '_')}": interval.value
        for group, intervals in named.items()
        for name, interval in intervals.items()
    }


def _at_forks(forks: AtForks | None) -> dict[str, float]:
    """Returns accuracy and entropy (nats) at the forks of each kind; names end with the fork's
    number if a response has several forks."""
    metrics: dict[str, float] = {}
    depths = forks.depths if forks else ()
    several = any(fork.depth > 1 for fork in depths)
    for fork in depths:
        kind = f"{'signed' if fork.signed else 'unsigned'}_fork"
        name = f"{kind}_{fork.depth}" if several else kind
        metrics[f"forks/{name}_accuracy"] = fork.accuracy.value
        metrics[f"forks/{name}_entropy"] = fork.entropy
    return metrics


def _pass_at(cell: Cell) -> dict[str, dict[int, float]]:
    return {"pass_at": _values(cell.pass_at), "delta_pass_at": _values(cell.delta_to_base)}


def _values(by_k: Mapping[int, Interval | None]) -> dict[int, float]:
    return {k: interval.value for k, interval in by_k.items() if interval is not None}


def _group(cell: Cell) -> str:
    return "" if cell.subset == ALL else f"{cell.subset}/"


def _ends(ks: Iterable[int]) -> list[int]:
    ordered = sorted(ks)
    return sorted({*ordered[:1], *ordered[-1:]})
