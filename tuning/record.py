"""The MLflow run of a trial. Names are equal in all runs, so that MLflow can compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.results import AtForks, Cell, Interval
from forkdiv.coverage.cells import ALL
from forkdiv.tracking import Tracker, TrackingFailed
from tuning.space import Point
from tuning.trial import TrialResult


def record(
    study: StudyConfig,
    result: TrialResult,
    parent: str,
    name: str,
    started: float,
    note: Callable[[str], None],
) -> dict[str, float]:
    """Writes the trial's run as a child of `parent`; returns its metrics. `study` has the settings
    of the trial's point; `started` is in seconds since the epoch. If MLflow does not take the run,
    `note` gets a line, and the result stays as it is."""
    # matplotlib takes a second to import
    from forkdiv.report.figures import curve_figure

    metrics = headline_metrics(result.cells) | _effort(result)
    try:
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
    except TrackingFailed as error:
        note(f"the trial's run in MLflow is incomplete, its results are complete: {error}")
    return metrics


def headline_metrics(cells: Sequence[Cell]) -> dict[str, float]:
    """Returns flat metrics with the same names in every run; those of a subset have its name as a
    prefix.

    A metric that a run does not have (the change from the base, for the base itself) is left out
    instead of zero.
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
        metrics[f"{prefix}readable"] = cell.readable_share
        metrics[f"{prefix}truncated"] = cell.truncated
        if cell.truncated_thinking:
            metrics[f"{prefix}truncated_thinking"] = cell.truncated_thinking
        metrics[f"{prefix}unparsable"] = cell.unparsable
        metrics[f"{prefix}errors"] = cell.errors
        metrics[f"{prefix}valid"] = float(cell.valid)
        if cell.subset == ALL:
            metrics |= _at_forks(cell.forks) | _beside_pass_at_k(cell)
    return metrics


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


def _effort(result: TrialResult) -> dict[str, float]:
    """Returns the number of drawn samples and their rate; empty if all samples existed."""
    seconds = result.seconds.get("sample", 0.0)
    if not result.drawn or not seconds:
        return {}
    return {"samples_drawn": float(result.drawn), "samples_per_s": result.drawn / seconds}


def _at_forks(forks: AtForks | None) -> dict[str, float]:
    """Returns accuracy and entropy (nats) at the forks of each kind; names end with the fork's
    number if a response has several forks."""
    metrics: dict[str, float] = {}
    depths = forks.depths if forks else ()
    several = any(fork.depth > 1 for fork in depths)
    for fork in depths:
        kind = f"{'signed' if fork.signed else 'unsigned'}_fork"
        name = f"{kind}_{fork.depth}" if several else kind
        metrics[f"{name}_accuracy"] = fork.accuracy.value
        metrics[f"{name}_entropy"] = fork.entropy
    return metrics


def dynamics(result: TrialResult) -> list[dict[str, float]]:
    """Returns pass@k and its change by epoch, one row per saved checkpoint, which MLflow draws as a
    curve. Empty if only the last checkpoint was saved."""
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
    """Returns the settings that vary, as numbers if possible. Constants are left out, because
    MLflow's comparison view opens with the first few parameters. The base has no values on the
    axes of fine-tuning."""
    common = {"temperature": point.temperature, "seed": point.seed, "tuned": int(point.tuned)}
    return common | ({"decoder": point.decoder} if point.decoder else {}) | point.varied


def tags(study: StudyConfig) -> dict[str, str]:
    """Returns all settings of the trial, including the effective decoder."""
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
    ordered = sorted(ks)
    return sorted({*ordered[:1], *ordered[-1:]})
