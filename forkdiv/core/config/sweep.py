"""What a study varies: its axes, and how their values are combined into trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from forkdiv.core.config.axis_range import AxisRange
from forkdiv.core.config.base import (
    Frozen,
    Name,
    Seed,
    Share,
    Temperature,
    Unit,
    without_defaults,
)
from forkdiv.core.config.data import DATA_AXES
from forkdiv.core.config.sft import LossName

# Axes of the fine-tuning that any task allows; `AXES` are the short names that identify a model.
TUNING_AXES = ("loss", "interpolation")
AXES = (*DATA_AXES, *TUNING_AXES)

# short name of an axis: path of the setting that it varies. `seed` varies two settings.
ALIASES = {axis: f"dataset.{axis}" for axis in DATA_AXES} | {
    "loss": "sft.loss",
    "interpolation": "interpolation",
    "decoder": "decoder",
    "temperature": "decoder.temperature",
    "seed": "seed",
}

# Settings that were added later: fingerprints omit them at their default, so that existing results
# are still reused.
LATER = (
    "axes",
    "search",
    "trials",
    "hours",
    "search_seed",
    "scheduler",
    "grace_epochs",
    "reduction",
)


class SweepConfig(Frozen):
    """What a study varies. `axes` takes any setting by its path; the other lists are short names
    of the axes that are varied most. If an axis is empty, its setting keeps its value. See
    docs/sweeps.md."""

    axes: dict[str, tuple[Any, ...] | AxisRange] = Field(
        {},
        description="Values by the path of a setting, such as sft.learning_rate: [1e-4, 1e-3]. A "
        "list, or a range of numbers: {range: [0, 1], steps: 5}, {range: [0, 1], step: 0.25} or "
        "{log: [1e-6, 1e-4], steps: 3}. A range without steps needs sweep.search=random or "
        "optuna.",
    )
    search: Literal["grid", "random", "optuna"] = Field(
        "grid",
        description="grid: every combination of all values. random: `trials` combinations are "
        "drawn. optuna: each of `trials` combinations is chosen from the results of earlier ones, "
        "for pass@1 and pass@k at the largest k.",
    )
    trials: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Number of fine-tuned settings that search=random and search=optuna measure.",
    )
    hours: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="With search=random or optuna: no further trial is chosen after so many hours; "
        "those that run are finished. null: until there are `trials`.",
    )
    search_seed: Seed = Field(
        0, description="Seed of what search=random draws and search=optuna chooses."
    )
    scheduler: Literal["none", "asha"] = Field(
        "none",
        description="none: every trial runs to its end. asha: a trial is stopped if its pass@k at "
        "the largest k, measured on the checkpoints that it saves, is not among the best "
        "1/`reduction` of the trials that have trained for as long. Needs checkpoints before the "
        "end (sft.save_epochs, sft.save_every) and place.overlap.",
    )
    grace_epochs: Annotated[float, Unit("epochs")] = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="Epochs before which no trial is stopped; trials are compared after "
        "grace_epochs, grace_epochs * reduction, grace_epochs * reduction^2 and so on.",
    )
    reduction: float = Field(
        2.0,
        gt=1,
        allow_inf_nan=False,
        description="With scheduler=asha, about one in `reduction` trials trains on after each "
        "comparison.",
    )
    fork_density: tuple[Share, ...] = Field((), description="Values of dataset.fork_density.")
    direction: tuple[Share, ...] = Field((), description="Values of dataset.direction.")
    branch_coverage: tuple[Annotated[int, Field(ge=1)] | None, ...] = Field(
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
    seed: tuple[Seed, ...] = Field(
        (),
        description="Values of sft.seed and dataset.seed together: repetitions of the whole "
        "fine-tuning, over which reports average.",
    )

    @model_validator(mode="after")
    def _no_value_twice(self) -> Self:
        for axis in ALIASES:
            values = getattr(self, axis)
            if len(set(values)) != len(values):
                raise ValueError(
                    f"{axis} has a value twice: {list(values)}; allowed: each value once; "
                    f"correct sweep.{axis}"
                )
        return self

    @model_validator(mode="after")
    def _search_fits_the_axes(self) -> Self:
        continuous = [path for path, values in self.axes.items() if isinstance(values, AxisRange)]
        if self.search == "grid":
            if continuous:
                raise ValueError(
                    f"sweep.axes.{continuous[0]} is a range without steps: got "
                    f"{self.axes[continuous[0]].model_dump()}; "  # type: ignore[union-attr]
                    "allowed: a list, or a range with steps, for sweep.search=grid; add steps, or "
                    "set sweep.search=random and sweep.trials"
                )
            for name in ("trials", "hours"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"sweep.{name}={getattr(self, name)} has no effect with sweep.search=grid, "
                        "which measures every combination; allowed: search random or optuna; set "
                        f"sweep.search, or remove sweep.{name}"
                    )
            return self
        if self.trials is None:
            raise ValueError(
                f"sweep.search={self.search} needs a number of trials: got none; allowed: 1 or "
                "more; set sweep.trials"
            )
        if self.search == "optuna":
            self._check_optuna()
        if not self.by_path:
            raise ValueError(
                f"sweep.search={self.search} has nothing to vary: got no axes; allowed: at least "
                "one axis; set sweep.axes"
            )
        return self

    def _check_optuna(self) -> None:
        """Raises ValueError for axes that Optuna cannot compare, and for a scheduler."""
        for path in self.by_path:
            if path in ("seed", "sft.seed", "dataset.seed"):
                raise ValueError(
                    f"{path} cannot be an axis of sweep.search=optuna: got values of {path}; "
                    "allowed: axes that are no repetitions, because a search would choose the "
                    "luckiest seed; remove the axis, or set sweep.search=random"
                )
            if path.split(".")[0] in ("eval", "task") and path != "task.train":
                raise ValueError(
                    f"{path} cannot be an axis of sweep.search=optuna: got values of {path}; "
                    "allowed: axes whose results on the same problems can be compared; remove the "
                    "axis, or set sweep.search=random"
                )
        if self.scheduler != "none":
            raise ValueError(
                f"sweep.scheduler={self.scheduler} cannot be used with sweep.search=optuna: got "
                "both; allowed: one of them, because Optuna's two objectives are those of "
                "trials that run to their end; remove one"
            )

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = without_defaults(self, plain(self), LATER)
        for path, axis in values.get("axes", {}).items():
            if not isinstance(axis, dict):  # a path is no plain value, which fingerprints take
                values["axes"][path] = [str(v) if isinstance(v, Path) else v for v in axis]
        return values

    @property
    def by_path(self) -> dict[str, tuple[Any, ...] | AxisRange]:
        """The values of all axes that vary, by the path of their setting."""
        short = {path: getattr(self, alias) for alias, path in ALIASES.items()}
        return {path: values for path, values in short.items() if values} | dict(self.axes)
