"""A range of numbers on an axis of a study: finite with steps, else for a search that draws."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from forkdiv.core.config.base import Frozen

ENDS = ("range", "log")  # the keys that tell a range from a section
MOST_STEPS = 10_000
DIGITS = 6  # of a number between the ends, so that names stay short


class AxisRange(Frozen):
    """Numbers from a low to a high end, both included. `range` spaces them evenly, `log` by a
    constant factor. With `steps` (how many numbers) or `step` (their distance, for `range`) the
    range is a list; without, it is continuous and `sweep.search` draws from it."""

    range: tuple[float, float] | None = Field(None, description="[low, high], evenly spaced.")
    log: tuple[float, float] | None = Field(
        None, description="[low, high] above 0, spaced by a constant factor."
    )
    steps: int | None = Field(None, ge=2, le=MOST_STEPS, description="Number of values.")
    step: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Distance of two values of `range`."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if (self.range is None) == (self.log is None):
            raise ValueError(
                "a range has either `range` or `log`; allowed: {range: [low, high]} or "
                "{log: [low, high]}"
            )
        low, high = self.ends
        if not float("-inf") < low < high < float("inf"):
            raise ValueError(f"got {[low, high]}; allowed: [low, high] with low below high")
        if self.log and low <= 0:
            raise ValueError(f"got log: {[low, high]}; allowed: two numbers above 0")
        if self.step is not None and (self.log or self.steps):
            raise ValueError("`step` is for `range` without `steps`; allowed: one of them")
        if self.step is not None and not 1 <= (high - low) / self.step <= MOST_STEPS:
            raise ValueError(
                f"got step: {self.step:g} in {[low, high]}; allowed: a step that fits into the "
                f"range, at most {MOST_STEPS:,} times"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if value is not None}

    @property
    def ends(self) -> tuple[float, float]:
        """The low and the high end."""
        ends = self.range or self.log
        assert ends
        return ends

    @property
    def is_list(self) -> bool:
        """Whether the range is a list of numbers."""
        return self.steps is not None or self.step is not None

    @property
    def numbers(self) -> list[float]:
        """The numbers of a range with steps, in order. `step` may end below the high end."""
        low, high = self.ends
        if self.step is not None:
            count = int((high - low) / self.step * (1 + 1e-12)) + 1
            return [rounded(low + self.step * i, 12) for i in range(count)]
        assert self.steps
        return [low, *(self.at(i / (self.steps - 1)) for i in range(1, self.steps - 1)), high]

    def at(self, share: float) -> float:
        """Returns the number at a share (0 to 1) of the way from the low to the high end."""
        low, high = self.ends
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        return min(max(rounded(value), low), high)


def rounded(value: float, digits: int = DIGITS) -> float:
    """Returns the number with so many significant digits."""
    return float(f"{value:.{digits}g}")
