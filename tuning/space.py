"""The search space of a study: the points of its grid, including those of the base model."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from operator import attrgetter
from typing import Any

from forkdiv.core.config.study import AXES, DATA_AXES, TUNING_AXES, StudyConfig
from forkdiv.core.config.sweep import SETTINGS, SHORT
from forkdiv.core.errors import refuse
from forkdiv.core.results import Axis, CellName
from forkdiv.forks import synthesis
from forkdiv.tasks.base import too_few
from forkdiv.tasks.registry import build
from forkdiv.train import schedule

MOST_PER_PROBLEM = 100  # examples of one problem: above what any setting of the data allows


@dataclass(frozen=True)
class Point:
    """The settings of one trial. Axes that the study does not vary are None. With `tuned` False,
    the trial evaluates the base model, and all axes are None."""

    temperature: float
    seed: int
    tuned: bool = True
    fork_density: float | None = None
    direction: float | None = None
    branch_coverage: int | None = None
    structure: str | None = None
    synthesis: str | None = None
    decoder: str | None = None  # its name, if the study varies decoders
    loss: str | None = None
    interpolation: float | None = None

    @property
    def axes(self) -> dict[str, Axis]:
        """The values of all axes; None for axes that the study does not vary."""
        values = asdict(self)
        return {axis: values[axis] for axis in AXES}

    def cell_name(self, epoch: float | None) -> CellName:
        """Returns the name of the trial's cells; `epoch` is that of the checkpoint, or None."""
        return CellName(
            axes=self.axes,
            tuned=self.tuned,
            epoch=epoch,
            temperature=self.temperature,
            seed=self.seed,
            decoder=self.decoder,
        )

    @property
    def varied(self) -> dict[str, float | int | str]:
        """The values of the axes that the study varies."""
        return {axis: value for axis, value in self.axes.items() if value is not None}

    @property
    def data(self) -> dict[str, float | int | str]:
        """The values of the varied axes of the data."""
        return {axis: value for axis, value in self.varied.items() if axis in DATA_AXES}

    @property
    def name(self) -> str:
        """The trial's name in progress lines, tables and MLflow, such as `density=0.5 T=1`."""
        axes = [f"{SHORT.get(axis, axis)}={_short(value)}" for axis, value in self.varied.items()]
        model = " ".join(axes or ["tuned"]) if self.tuned else "base"
        seed = f" seed={self.seed}" if self.seed and self.tuned else ""
        decoder = f" {self.decoder}" if self.decoder else ""
        return f"{model}{decoder} T={_short(self.temperature)}{seed}"


def _short(value: float | int | str) -> str:
    """Returns the shortest text that is different for different values."""
    if isinstance(value, str):
        return value
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def axes(study: StudyConfig) -> tuple[str, ...]:
    """Returns the axes that the study varies; if it varies none, the first axis of the task."""
    known = [axis for axis in DATA_AXES if axis in build(study.task).knobs]
    varied = tuple(axis for axis in (*known, *TUNING_AXES) if getattr(study.sweep, axis))
    return varied or tuple(known[:1])


def points(study: StudyConfig) -> list[Point]:
    """Returns the grid: first the base with every decoder, then every tuned model with every
    decoder. The points of a model follow each other; the first of them trains it."""
    decoders = [
        (name, temperature)
        for name, decoder in study.swept_decoders.items()
        for temperature in study.sweep.temperature or (decoder.temperature,)
    ]
    seeds = study.sweep.seed or (study.sft.seed,)
    varied = axes(study)
    values = [getattr(study.sweep, axis) or (attrgetter(SETTINGS[axis])(study),) for axis in varied]
    base = [Point(t, seeds[0], tuned=False, decoder=name) for name, t in decoders]
    tuned = [
        Point(t, s, decoder=name, **dict(zip(varied, setting, strict=True)))
        for s in seeds
        for setting in product(*values)
        for name, t in decoders
    ]
    return base + tuned


def single_point(study: StudyConfig) -> Point:
    """Returns the tuned point with the study's settings, without its sweep."""
    return points(study.model_copy(update={"sweep": type(study.sweep)()}))[-1]


def at(study: StudyConfig, point: Point) -> StudyConfig:
    """Returns the study with the point's values and without a sweep.

    The axis `seed` varies the randomness of fine-tuning: which training problems are drawn, and
    their order. Without that axis, both keep their seeds. Held-out problems stay the same.
    """
    decoder = study.decoders[point.decoder] if point.decoder else study.decoder
    values: dict[str, Any] = {}
    if point.tuned:
        values = {SETTINGS[axis]: value for axis, value in point.varied.items()}
        if study.sweep.seed:
            values |= {"dataset.seed": point.seed, "sft.seed": point.seed}
    update = {"decoder": decoder.at(point.temperature), "sweep": type(study.sweep)()}
    return _with_settings(study.model_copy(update=update), values)


def _with_settings(study: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """Returns the study with new values of the settings with these dotted names."""
    sections: dict[str, dict[str, Any]] = {}
    for setting, value in values.items():
        section, _, name = setting.rpartition(".")
        sections.setdefault(section, {})[name] = value
    top_level = sections.pop("", {})
    changed = {
        section: getattr(study, section).model_copy(update=update)
        for section, update in sections.items()
    }
    return study.model_copy(update=top_level | changed)


def check_data(study: StudyConfig) -> None:
    """Raises UserError for settings from which no fine-tuning data can be generated. For every
    point of the grid it generates the first example, which raises for impossible settings."""
    _check_axes(study)
    task = build(study.task)
    for point in points(study):
        config = at(study, point).dataset
        task.check_knobs(config)
        synthesis.check(task, config.synthesis)
        if config.synthesis == "none":  # otherwise the number of examples is not known yet
            schedule.saves(task.examples(config), study.sft)
        if task.examples(config) > MOST_PER_PROBLEM * task.available("train"):
            raise too_few("train", task.examples(config), task.available("train"))
        examples = task.sft_examples(config)
        if task.available("train") < 20 * task.examples(config):
            deque(examples, maxlen=0)  # all examples: a small task may not have enough
        else:
            next(iter(examples))


def _check_axes(study: StudyConfig) -> None:
    """Raises UserError for an axis that the task's data does not have."""
    task = build(study.task)
    for axis in DATA_AXES:
        values = getattr(study.sweep, axis)
        if values and axis not in task.knobs:
            data_axes = [name for name in DATA_AXES if name in task.knobs]
            allowed = [*data_axes, *TUNING_AXES, "decoder", "temperature", "seed"]
            raise refuse(
                f"sweep.{axis} has no effect on this task",
                list(values),
                ", ".join(f"sweep.{name}" for name in allowed),
                f"remove sweep.{axis}",
            )
