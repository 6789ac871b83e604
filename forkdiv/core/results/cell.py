"""A cell: what was measured of one model under one decoder on one subset of the problems.

A model is written with the fields that it was given, so a summary that an older version wrote,
which lacks the fields that came later, is read with their defaults and written as it was. Values
by k are held by the number k; in JSON their keys are texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Axis = int | float | str | None  # a value on one axis of a study; None where it does not vary it


class Result(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values, without the fields that were never given."""
        return self.model_dump(mode="json", exclude_unset=True)


class Interval(Result):
    """A value with its limits at one k, and with those for every k of its curve at once.

    `method` is "wilson" where fewer than ten problems make up the spread: such limits hold more
    often than the confidence says.
    """

    value: float
    low: float
    high: float
    low_all: float | None = None
    high_all: float | None = None
    method: str = ""


class Agreement(Result):
    """Sampled against exact pass@k; `worst_z` in standard errors of sampling, at `at_k`."""

    worst_z: float
    at_k: int
    agrees: bool


class ModeValue(Result):
    """pass@k over the `problems` that have at least k samples of one mode."""

    value: float
    problems: int


class Mode(Result):
    """The samples of one mode: their share of all, and their own pass@k."""

    share: float
    pass_at: dict[int, ModeValue]


class ForkDepth(Result):
    """The forks of one depth and kind, averaged over the `problems` that have them.

    `chance` is the accuracy of choosing blindly, `entropy` (nats) is over the branches alone,
    `uniform` its largest value; `off` is the probability of none of the branches; `shares` are the
    probabilities of the branches from the largest to the smallest.
    """

    depth: int
    signed: bool
    problems: int
    branches: float
    accuracy: Interval
    chance: float
    entropy: float
    uniform: float
    off: float
    shares: tuple[float, ...]


class AtForks(Result):
    """`fork_pass_at` is exact pass@k of a model that errs at forks only, `pass_at` that of the
    model itself."""

    depths: tuple[ForkDepth, ...]
    fork_pass_at: dict[int, float]
    pass_at: dict[int, float]


class Heldout(Result):
    """A law fitted to `fit_n` samples of each problem, against pass@`at_k` of the others; `error`
    is predicted minus observed."""

    fit_n: int
    at_k: int
    predicted: Interval
    observed: Interval
    error: float


class Rival(Result):
    """What beta-distributed chances of the problems predict."""

    alpha: float
    beta: float
    predictions: dict[int, Interval]
    heldout: Heldout | None


class Law(Result):
    """pass@k = exp(a·k^b) with its limits; `heldout` is None where there are too few samples."""

    a: float
    a_low: float
    a_high: float
    b: float
    b_low: float
    b_high: float
    predictions: dict[int, Interval]
    heldout: Heldout | None
    rival: Rival | None = None


class Crossing(Result):
    """k*: where the change to the base turns from gain to loss; None where it never does.

    `low` is None where the limit lies below the smallest k, `high` where it lies beyond the
    largest. `share` of the resamples have a crossing; `above_at_1` tells whether there is a gain
    at the smallest k.
    """

    k: float | None
    low: float | None
    high: float | None
    share: float
    above_at_1: bool


class LargestLoss(Interval):
    """The lowest change to the base, at `k`; its limits hold for all k at once."""

    k: int


class Side(Result):
    """One model on one problem: `correct` of `n` samples, and one right and one wrong response."""

    n: int
    correct: int
    pass_at: float
    right: str | None
    wrong: str | None


class ChangedProblem(Result):
    """A problem that was lost or gained; `clear` where the two counts differ by more than chance
    allows among so many problems."""

    id: str
    prompt: str
    clear: bool
    base: Side
    tuned: Side


class Shrinkage(Result):
    """Where a gain turns into a loss, and the problems lost and gained at the largest k."""

    at_k: int
    lost_count: int
    gained_count: int
    lost: tuple[ChangedProblem, ...]
    gained: tuple[ChangedProblem, ...]
    crossing: Crossing
    largest_loss: LargestLoss | None


class Named(Result):
    """What is named by the axes of a study. In JSON the axes lie beside the other keys: every key
    that is no field is an axis."""

    axes: Mapping[str, Axis]

    @model_validator(mode="before")
    @classmethod
    def _gather_axes(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        axes = {key: value for key, value in data.items() if key not in cls.model_fields}
        known = {key: value for key, value in data.items() if key not in axes}
        return {**known, "axes": {**axes, **known.get("axes", {})}}

    @model_serializer(mode="wrap")
    def _spread_axes(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = write(self)
        axes: dict[str, Any] = written.pop("axes", {})
        return {**written, **axes}


class CellName(Named):
    """Which model under which decoder: `epoch` (or step) counts the saved checkpoints of a run and
    is None for the base; `decoder` is its name where the study varies decoders."""

    tuned: bool
    epoch: int | float | None = None
    temperature: float
    seed: int
    decoder: str | None = None


class Measured(Result):
    """The numbers of a cell; the defaults are those of an invalid one, which has none.

    `pass_at` and `delta_to_base` (the change to the base) are means over the problems. In
    `best_case_pass_at` every truncated or unparsable answer counts as correct. `exact_pass_at`
    comes from the model's own probabilities, `majority_at` from a vote among k samples,
    `distinct_at` counts distinct correct solutions among k samples.
    """

    modes: dict[str, Mode] = {}
    pass_at: dict[int, Interval | None]
    delta_to_base: dict[int, Interval] = {}
    best_case_pass_at: dict[int, float] = {}
    exact_pass_at: dict[int, float] = {}
    agreement: Agreement | None = None
    majority_at: dict[int, float] = {}
    distinct_at: dict[int, Interval] = {}
    distinct_delta: dict[int, Interval] = {}
    valid_solutions: float | None = None
    forks: AtForks | None = None
    law: Law | None = None
    no_law: str = ""
    shrinkage: Shrinkage | None = None
    metrics: dict[str, dict[int, Interval]] = {}  # by the name of a registered metric


class Cell(CellName, Measured):
    """One cell. `n_samples` are those asked of each problem, `n_drawn` all that were drawn; `lost`
    counts wrong answers by their reason. A cell with `errors` (samples without a verdict) is not
    `valid` and has no numbers."""

    subset: str
    n_problems: int
    n_samples: int
    n_drawn: int | None = None
    truncated: int
    unparsable: int
    errors: int
    valid: bool
    lost: dict[str, int]
