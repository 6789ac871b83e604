"""A trial as MLflow shows it: equal names in every run, so that its comparison views work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.results import AtForks, Cell, Interval
from forkdiv.coverage.cells import ALL
from forkdiv.tracking import Tracker
from tuning.space import Point
from tuning.trial import TrialResult


def record(
    study: StudyConfig, result: TrialResult, parent: str, name: str, started: float
) -> dict[str, float]:
    """Write the trial's run under its `parent`; `study` is the study at the trial's point and
    `started` in seconds since the epoch. Returns its metrics."""
    # matplotlib takes a second to import
    from forkdiv.report.figures import curve_figure

    metrics = headline_metrics(result.cells) | _effort(result)
    Tracker.of(study.place).trial(
        parent=parent,
        fingerprint=result.fingerprint,
        name=name,
        params=params(result.point),
        tags=tags(study),
        started=started,
        metrics=metrics,
        valid=all(cell.valid for cell in result.cells),
        history=[*result.history, *dynamics(result)],
        figures={"pass_at_k.png": curve_figure(list(result.cells), name)},
    )
    return metrics


def headline_metrics(cells: Sequence[Cell]) -> dict[str, float]:
    """Flat numbers under the same names in every run: all problems plain, subsets by prefix.

    MLflow's comparison views need equal keys; a metric that does not hold in a run (the
    difference of the base to itself) is left out, not made zero.
    """
    metrics: dict[str, float] = {}
    for cell in cells:
        prefix = _prefix(cell)
        numbers: dict[str, Mapping[int, float]] = {
            "pass_at": _values(cell.pass_at),
            "delta_pass_at": _values(cell.delta_to_base),
            "distinct_at": _values(cell.distinct_at),
            "exact_pass_at": cell.exact_pass_at,
            "majority_at": cell.majority_at,
            **{f"{name}_at": _values(by_k) for name, by_k in cell.metrics.items()},
        }
        for name, by_k in numbers.items():
            metrics |= {f"{prefix}{name}_{k}": value for k, value in by_k.items()}
        metrics[f"{prefix}truncated"] = cell.truncated
        metrics[f"{prefix}unparsable"] = cell.unparsable
        metrics[f"{prefix}errors"] = cell.errors
        metrics[f"{prefix}valid"] = float(cell.valid)
        if cell.subset == ALL:
            metrics |= _at_forks(cell.forks)
    return metrics


def _effort(result: TrialResult) -> dict[str, float]:
    """What sampling took this time; nothing where all samples were there."""
    passed = result.seconds.get("sample", 0.0)
    if not result.drawn or not passed:
        return {}
    return {"samples_drawn": float(result.drawn), "samples_per_s": result.drawn / passed}


def _at_forks(forks: AtForks | None) -> dict[str, float]:
    """Accuracy and entropy (nats) at the forks of each kind, numbered where they are in a row."""
    metrics: dict[str, float] = {}
    depths = forks.depths if forks else ()
    several = any(one.depth > 1 for one in depths)
    for one in depths:
        kind = f"{'signed' if one.signed else 'unsigned'}_fork"
        name = f"{kind}_{one.depth}" if several else kind
        metrics[f"{name}_accuracy"] = one.accuracy.value
        metrics[f"{name}_entropy"] = one.entropy
    return metrics


def dynamics(result: TrialResult) -> list[dict[str, float]]:
    """pass@k and its change by epoch, one row per saved checkpoint: what MLflow draws as a
    curve. Empty where only the last one was saved."""
    if not result.dynamics:
        return []
    rows: dict[float, dict[str, float]] = {}
    for cell in [*result.dynamics, *result.cells]:
        if cell.epoch is None:
            continue
        epoch = float(cell.epoch)
        row = rows.setdefault(epoch, {"step": epoch})
        curves: dict[str, Mapping[int, Interval | None]] = {
            "pass_at": cell.pass_at,
            "delta_pass_at": cell.delta_to_base,
        }
        for name, curve in curves.items():
            known = _values(curve)
            row |= {f"epoch_{_prefix(cell)}{name}_{k}": known[k] for k in _ends(known)}
    return list(rows.values())


def params(point: Point) -> dict[str, float | str]:
    """What varies, as numbers where it is one: MLflow's comparison opens with the first few
    parameters, and constants would fill its axes. The base has no values on the axes of tuning."""
    own = {"temperature": point.temperature, "seed": point.seed, "tuned": int(point.tuned)}
    return own | ({"decoder": point.decoder} if point.decoder else {}) | point.varied


def tags(study: StudyConfig) -> dict[str, str]:
    """What was in force without varying, the effective decoder first of all."""
    settings = {
        "task": study.task,
        "prompt": study.prompt,
        "decoder": study.decoder,
        "dataset": study.dataset,
        "sft": study.sft,
    }
    return {
        f"{section}.{key}": str(value)
        for section, config in settings.items()
        for key, value in config.model_dump(mode="json").items()
    }


def _values(by_k: Mapping[int, Interval | None]) -> dict[int, float]:
    return {k: interval.value for k, interval in by_k.items() if interval is not None}


def _prefix(cell: Cell) -> str:
    return "" if cell.subset == ALL else f"{cell.subset}_"


def _ends(ks: Iterable[int]) -> list[int]:
    found = sorted(ks)
    return sorted({*found[:1], *found[-1:]})
