"""A cell: the measurements of one model with one decoder on one subset of the problems.

Only fields that were set are written. So a summary of an older version, which lacks fields that
were added later, is read with their defaults and written back unchanged. Values by k are keyed by
the number k; in JSON the keys are strings.
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

Axis = int | float | str | None  # a value on an axis of a study; None: the study does not vary it


class Result(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_json(self) -> dict[str, Any]:
        """Returns plain JSON values, without fields that were not set."""
        return self.model_dump(mode="json", exclude_unset=True)


class Interval(Result):
    """A value with its confidence limits at one k (`low`, `high`) and with limits that hold for
    all k of its curve simultaneously (`low_all`, `high_all`).

    `method` is "wilson" if fewer than ten problems contribute to the variance; such limits are
    conservative.
    """

    value: float
    low: float
    high: float
    low_all: float | None = None
    high_all: float | None = None
    method: str = ""


class Agreement(Result):
    """Comparison of sampled with exact pass@k: `worst_z` is the largest difference, in standard
    errors of sampling, and occurs at `at_k`."""

    worst_z: float
    at_k: int
    agrees: bool


class ModeValue(Result):
    """pass@k over the `problems` that have at least k samples of one mode."""

    value: float
    problems: int


class Mode(Result):
    """The samples of one reasoning mode: their share of all samples, and their pass@k."""

    share: float
    pass_at: dict[int, ModeValue]


class ForkDepth(Result):
    """The forks of one depth and kind, averaged over the `problems` that have them.

    `chance` is the accuracy of a random choice; `entropy` (nats) is computed over the branches
    only, and `uniform` is its maximum; `off` is the probability of tokens that are not branches;
    `shares` are the probabilities of the branches in descending order.
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
    """`fork_pass_at` is the exact pass@k of a hypothetical model that makes errors at forks only,
    `pass_at` the exact pass@k of the model itself."""

    depths: tuple[ForkDepth, ...]
    fork_pass_at: dict[int, float]
    pass_at: dict[int, float]


class Heldout(Result):
    """A law fitted to `fit_n` samples of each problem, compared with pass@`at_k` of the remaining
    samples; `error` is predicted minus observed."""

    fit_n: int
    at_k: int
    predicted: Interval
    observed: Interval
    error: float


class Rival(Result):
    """The prediction if the success probabilities of the problems follow a beta distribution."""

    alpha: float
    beta: float
    predictions: dict[int, Interval]
    heldout: Heldout | None


class Law(Result):
    """The fit of pass@k = exp(a·k^b) with confidence limits; `heldout` is None if there are too few
    samples."""

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
    """k*: the k at which the change from the base turns from gain to loss; None if there is none.

    `low` is None if the lower limit lies before the first k, `high` if the upper one lies after
    the last. `share` is the share of bootstrap resamples that have a crossing; `above_at_1` is
    True if the change at the first k is a gain.
    """

    k: float | None
    low: float | None
    high: float | None
    share: float
    above_at_1: bool


class LargestLoss(Interval):
    """The lowest change from the base, at `k`; its limits hold for all k simultaneously."""

    k: int


class Side(Result):
    """One model on one problem: `correct` of `n` samples, and an example of a right and of a wrong
    response."""

    n: int
    correct: int
    pass_at: float
    right: str | None
    wrong: str | None


class ChangedProblem(Result):
    """A problem that was lost or gained; `clear` is True if the two counts differ significantly,
    corrected for the number of problems."""

    id: str
    prompt: str
    clear: bool
    base: Side
    tuned: Side


class Shrinkage(Result):
    """The crossing from gain to loss, and the problems lost and gained at the largest k."""

    at_k: int
    lost_count: int
    gained_count: int
    lost: tuple[ChangedProblem, ...]
    gained: tuple[ChangedProblem, ...]
    crossing: Crossing
    largest_loss: LargestLoss | None


class Guess(Result):
    """The guess baseline: what guessing would get that does not depend on the problem.

    `pass_at` is pass@k of k responses drawn from the model's own responses to the other problems;
    `above` is the mean of pass@k minus it, and `above_delta` the change of `above` from the base.
    `references` is the number of distinct right answers of all problems, and `unknown` the number
    of problems whose right answer is unknown, for which the baseline is 0.
    """

    pass_at: dict[int, Interval]
    above: dict[int, Interval]
    above_delta: dict[int, Interval] = {}
    references: int
    unknown: int = 0


class Named(Result):
    """A result that is identified by the axes of a study. In JSON the axes are at the level of the
    other keys: every key that is not a field is an axis."""

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
    """Identifies a model and a decoder: `epoch` is the epoch or step of the saved checkpoint, None
    for the base; `decoder` is the decoder's name if the study varies decoders."""

    tuned: bool
    epoch: int | float | None = None
    temperature: float
    seed: int
    decoder: str | None = None


class Measured(Result):
    """The numbers of a cell; an invalid cell has the defaults.

    `pass_at` and `delta_to_base` (the change from the base) are means over the problems. In
    `best_case_pass_at` every truncated or unparsable answer counts as correct. `exact_pass_at` is
    computed from the model's probabilities, `majority_at` from a majority vote among k samples;
    `distinct_at` is the number of distinct correct solutions among k samples.

    `reliability` has Cover@tau, G-Pass@k and mG-Pass@k by name, such as cover@0.5, g-pass@16_0.5
    and mg-pass@16; `reliability_delta` has their changes from the base. `paired_counts` lists how
    many problems had so many right samples of the base and so many of the tuned model, as (base,
    tuned, problems); it is empty where samples are not exchangeable.
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
    metrics_delta: dict[str, dict[int, Interval]] = {}
    majority_limits: dict[int, Interval] = {}  # of majority_at
    majority_delta: dict[int, Interval] = {}
    reliability: dict[str, Interval] = {}
    reliability_delta: dict[str, Interval] = {}
    guess: Guess | None = None
    paired_counts: tuple[tuple[int, int, int], ...] = ()


class Cell(CellName, Measured):
    """One cell. `n_samples` is the requested number of samples per problem, `n_drawn` the total
    that was drawn; `truncated_thinking` are those of the truncated samples that were cut off inside
    their thinking; `lost` counts wrong answers by reason. `same_samples` is the number of problems
    whose samples are all the same response, None if it is unknown. `readable` is the share of
    responses that were neither truncated nor unparsable; summaries of older versions lack it
    (`readable_share` has it always). A cell with `errors` (samples without a verdict) is not
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
    same_samples: int | None = None
    truncated_thinking: int = 0
    readable: float | None = None

    @property
    def readable_share(self) -> float:
        """The share of responses that were neither truncated nor unparsable."""
        drawn = self.n_drawn or self.n_problems * self.n_samples
        return 1 - (self.truncated + self.unparsable) / drawn
