"""The grid of a study: which settings vary, over which values."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from forkdiv.core.config.base import Frozen, Name, Seed, Share, Temperature
from forkdiv.core.config.data import DATA_AXES
from forkdiv.core.config.sft import LossName

# Axes of the fine-tuning that any task allows; `AXES` are all axes that identify a model.
TUNING_AXES = ("loss", "interpolation")
AXES = (*DATA_AXES, *TUNING_AXES)

# the setting that an axis varies, and a short name of the axis for narrow tables
SETTINGS = {axis: f"dataset.{axis}" for axis in DATA_AXES} | {
    "loss": "sft.loss",
    "interpolation": "interpolation",
}
SHORT = {"fork_density": "density", "branch_coverage": "coverage", "interpolation": "alpha"}


class SweepConfig(Frozen):
    """The axes of the grid; every combination of their values is one trial. If an axis is empty,
    the setting that it is named after keeps its value."""

    fork_density: tuple[Share, ...] = Field((), description="Values of dataset.fork_density.")
    direction: tuple[Share, ...] = Field((), description="Values of dataset.direction.")
    branch_coverage: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Values of dataset.branch_coverage."
    )
    structure: tuple[Literal["data-level", "problem-level"], ...] = Field(
        (), description="Values of dataset.structure."
    )
    synthesis: tuple[Literal["none", "enumerator", "samples"], ...] = Field(
        (), description="Values of dataset.synthesis."
    )
    decoder: tuple[Name, ...] = Field((), description="Names of decoders, from `decoders`.")
    loss: tuple[LossName, ...] = Field((), description="Values of sft.loss.")
    interpolation: tuple[Share, ...] = Field((), description="Values of `interpolation`.")
    temperature: tuple[Temperature, ...] = Field(
        (),
        description="Values of decoder.temperature; they also override the temperature of the "
        "decoders in `decoders`.",
    )
    seed: tuple[Seed, ...] = Field((), description="Values of sft.seed.")

    @model_validator(mode="after")
    def _no_value_twice(self) -> Self:
        for axis in type(self).model_fields:
            values = getattr(self, axis)
            if len(set(values)) != len(values):
                raise ValueError(
                    f"{axis} has a value twice: {list(values)}; allowed: each value once; "
                    f"correct sweep.{axis}"
                )
        return self
