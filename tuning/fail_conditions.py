"""The conditions of --fail-if: read before work starts, decided when the results are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.results import Summary
from forkdiv.coverage import conditions
from forkdiv.coverage.conditions import Condition, Verdict
from forkdiv.coverage.metric_names import Metrics

Checkpoints = tuple[str, Sequence[float]]  # the unit of a run's checkpoints, and their numbers


def parse(
    texts: Sequence[str],
    study: StudyConfig,
    has_answers: bool,
    checkpoints: Checkpoints,
    has_base: bool = True,
) -> list[Condition]:
    """Returns the conditions in order. Raises UserError as `conditions.parse` does."""
    independent = study.decoder.design == "independent"
    metrics = Metrics.to_measure(study.eval, independent, has_answers)
    models = conditions.model_names(*checkpoints, has_base=has_base)
    return [conditions.parse(text, metrics, models) for text in texts]


def report(
    parsed: Sequence[Condition], done: Summary, folder: Path, show: Callable[[str], None]
) -> int:
    """Shows one line per condition, and for one that cannot be decided how to plan a comparison
    that can; returns the exit status. `folder` has the results."""
    decisions = [conditions.decide(condition, done) for condition in parsed]
    for decision in decisions:
        show(decision.line)
    status = conditions.status(decisions)
    if status == Verdict.UNDECIDED:
        show(
            f"forkdiv power --from {folder} --loss LOSS computes how many problems and samples "
            "show a loss"
        )
    return status
