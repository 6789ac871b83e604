"""Conditions on a comparison, such as `pass@64 < base - 0.02`, decided by confidence limits.

    CONDITION = [MODEL.]METRIC OP base [+|- NUMBER]   or   [MODEL.]METRIC OP NUMBER

OP is <, <=, > or >=. MODEL is `tuned` (the default), `base`, or a checkpoint of a run such as
step-200. A condition with `base` is about the paired change from the base, one with a number about
the metric itself. It holds if every value within the limits fulfils it, and it does not hold if
none does; otherwise the results cannot decide it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from forkdiv.core.errors import UserError, refuse
from forkdiv.core.results import Cell, Interval, Summary
from forkdiv.coverage.metric_names import Metrics

TUNED, BASE = "tuned", "base"
EXAMPLE = "'pass@64 < base - 0.02' or 'pass@1 >= 0.5'"
MOST_DIGITS = 6

_CONDITION = re.compile(
    r"\s*(?:(?P<model>[A-Za-z][\w-]*(?:\.\d+)?)\.(?=[A-Za-z]))?(?P<metric>[A-Za-z][\w-]*@[\d._]+)"
    r"\s*(?P<op><=|>=|<|>)\s*"
    r"(?:(?P<base>base)\s*(?:(?P<sign>[+-])\s*(?P<offset>\d*\.?\d+))?|(?P<number>-?\d*\.?\d+))\s*"
)
_SIGNS = str.maketrans({"\N{MINUS SIGN}": "-", "≤": "<=", "≥": ">="})


class Verdict(IntEnum):
    """What the limits say about a condition. The values are exit statuses."""

    DOES_NOT_HOLD = 0
    HOLDS = 3
    UNDECIDED = 4


PHRASES = {
    Verdict.DOES_NOT_HOLD: "does not hold",
    Verdict.HOLDS: "holds",
    Verdict.UNDECIDED: "cannot be decided",
}


@dataclass(frozen=True)
class Condition:
    """`threshold` is compared with the change from the base if `of_change`, else with the metric
    itself. `text` is what the user wrote."""

    text: str
    model: str
    metric: str
    op: str
    threshold: float
    of_change: bool


@dataclass(frozen=True)
class Decision:
    """A condition, what the limits say about it, and a line that says why."""

    condition: Condition
    verdict: Verdict
    line: str


def parse(text: str, metrics: Metrics, models: Sequence[str]) -> Condition:
    """Returns the condition. `metrics` are the metrics that will be measured, `models` the names
    of the models; without BASE among them there is no base to compare with.

    Raises UserError for a text that is not a condition, a metric that is not measured (with the
    nearest one that is), an unknown model, and a number that no value can reach.
    """
    match = _CONDITION.fullmatch(text.translate(_SIGNS))
    if match is None:
        raise refuse(
            "the condition cannot be read",
            repr(text),
            f"METRIC OP base [+|- NUMBER], or METRIC OP NUMBER, such as {EXAMPLE}; "
            f"{metrics.allowed}",
            "correct --fail-if",
        )
    model = match["model"] or TUNED
    if model not in models:
        raise refuse(
            f"the condition {text!r} is about a model that is not compared",
            model,
            ", ".join(models),
            "correct --fail-if",
        )
    metric = metrics.check(match["metric"], f"--fail-if {text!r}")
    of_change = match["base"] is not None
    if of_change and (model == BASE or BASE not in models):
        raise refuse(
            f"the condition {text!r} has nothing to compare with",
            "the base on both sides" if model == BASE else "no base",
            "a number after the operator, or a tuned model and a base",
            "correct --fail-if, or add the base",
        )
    threshold = float(match["number"] or match["offset"] or 0.0)
    threshold = -threshold if match["sign"] == "-" else threshold
    condition = Condition(text.strip(), model, metric, match["op"], threshold, of_change)
    _require_possible(condition, metrics)
    return condition


def decide(condition: Condition, summary: Summary) -> Decision:
    """Returns the decision on a condition. Raises UserError if the results have no limits for its
    metric, for example because verdicts have no answers."""
    cell = _cell(condition.model, summary)
    metrics = Metrics.of_cell(cell)
    interval = (metrics.changes if condition.of_change else metrics.values).get(condition.metric)
    if interval is None:
        raise metrics.missing(condition.metric, f"--fail-if {condition.text!r}")
    verdict = _verdict(condition, interval)
    return Decision(condition, verdict, _line(condition, interval, verdict, summary.confidence))


def status(decisions: Iterable[Decision]) -> int:
    """Returns the exit status: 3 if a condition holds, else 4 if one is undecided, else 0."""
    verdicts = [decision.verdict for decision in decisions]
    for verdict in (Verdict.HOLDS, Verdict.UNDECIDED):
        if verdict in verdicts:
            return int(verdict)
    return int(Verdict.DOES_NOT_HOLD)


def model_names(unit: str, numbers: Sequence[float], has_base: bool) -> list[str]:
    """Returns the names of the models of a comparison; the checkpoints of a run have names such as
    step-200."""
    names = [TUNED, BASE] if has_base else [TUNED]
    return names + ([_checkpoint_name(unit, n) for n in numbers] if len(numbers) > 1 else [])


def _checkpoint_name(unit: str, number: float) -> str:
    return f"{unit}-{number:g}"


def _cell(model: str, summary: Summary) -> Cell:
    cells = summary.base if model == BASE else (*summary.cells, *summary.dynamics)
    for cell in cells:
        name = _checkpoint_name(summary.unit, cell.epoch) if cell.epoch is not None else ""
        if cell.subset == "all" and (model in (TUNED, BASE) or name == model):
            return cell
    raise UserError(f"the results have no model {model}")


def _require_possible(condition: Condition, metrics: Metrics) -> None:
    low, high = metrics.range_of(condition.metric, condition.of_change)
    if not low <= condition.threshold <= high:
        what = "change of" if condition.of_change else "value of"
        raise refuse(
            f"no {what} {condition.metric} reaches the number in {condition.text!r}",
            f"{condition.threshold:g}",
            f"{low:g} to {high:g}; 0.02 means 2 of every 100 problems",
            "correct --fail-if",
        )


def _verdict(condition: Condition, interval: Interval) -> Verdict:
    low, high, at = interval.low, interval.high, condition.threshold
    holds, fails = {
        "<": (high < at, low >= at),
        "<=": (high <= at, low > at),
        ">": (low > at, high <= at),
        ">=": (low >= at, high < at),
    }[condition.op]
    if holds:
        return Verdict.HOLDS
    return Verdict.DOES_NOT_HOLD if fails else Verdict.UNDECIDED


def _line(condition: Condition, interval: Interval, verdict: Verdict, confidence: float) -> str:
    numbers = (interval.value, interval.low, interval.high, condition.threshold)
    digits = 3
    # a limit that differs from the threshold must not be printed as equal to it
    while digits < MOST_DIGITS and any(
        number != condition.threshold
        and round(number, digits) == round(condition.threshold, digits)
        for number in numbers[1:3]
    ):
        digits += 1
    value, low, high, at = (_number(x, digits, condition.of_change) for x in numbers)
    model = "" if condition.model == TUNED else f" of {condition.model}"
    what = f"{condition.metric}{model}"
    if condition.of_change:
        what = f"the change of {what} from the base"
    why = f"{what} is {value}, {confidence * 100:g}% limits {low} to {high}"
    if verdict is Verdict.UNDECIDED:
        why += f", which include {at}"
    return f"fail-if {condition.text}: {PHRASES[verdict]}: {why}"


def _number(value: float, digits: int, with_sign: bool) -> str:
    rounded = round(value, digits) or 0.0
    sign = "+" if with_sign and rounded else ""
    return f"{rounded:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")
