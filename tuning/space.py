"""What varies in a study: points of the grid, the base model's own ones among them."""

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
from forkdiv.tasks.registry import build
from forkdiv.train import schedule


@dataclass(frozen=True)
class Point:
    """One trial. The axes that a study does not vary are None, and so are all of them where
    `tuned` is False: the base model itself, before any fine-tuning."""

    temperature: float
    seed: int
    tuned: bool = True
    fork_density: float | None = None
    direction: float | None = None
    branch_coverage: int | None = None
    structure: str | None = None
    synthesis: str | None = None
    decoder: str | None = None  # its name, where the study varies decoders
    loss: str | None = None
    interpolation: float | None = None

    @property
    def axes(self) -> dict[str, Axis]:
        """The values of all axes, those that the study does not vary too."""
        values = asdict(self)
        return {axis: values[axis] for axis in AXES}

    def cell_name(self, epoch: float | None) -> CellName:
        """What names its cells; `epoch` counts the saved checkpoints of a run."""
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
        """Those of them that shape the data."""
        return {axis: value for axis, value in self.varied.items() if axis in DATA_AXES}

    @property
    def name(self) -> str:
        first = [f"{SHORT.get(axis, axis)}={_short(value)}" for axis, value in self.varied.items()]
        who = " ".join(first or ["tuned"]) if self.tuned else "base"
        seed = f" seed={self.seed}" if self.seed and self.tuned else ""
        how = f" {self.decoder}" if self.decoder else ""
        return f"{who}{how} T={_short(self.temperature)}{seed}"


def _short(value: float | int | str) -> str:
    """As short as can be without giving two values one name."""
    if isinstance(value, str):
        return value
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def axes(study: StudyConfig) -> tuple[str, ...]:
    """The axes that the study varies; where it varies none, the task's first."""
    known = [axis for axis in DATA_AXES if axis in build(study.task).knobs]
    varied = tuple(axis for axis in (*known, *TUNING_AXES) if getattr(study.sweep, axis))
    return varied or tuple(known[:1])


def points(study: StudyConfig) -> list[Point]:
    """The base under every decoder first, then setting by setting: each trains once."""
    decoders = [
        (name, temperature)
        for name, one in study.swept_decoders.items()
        for temperature in study.sweep.temperature or (one.temperature,)
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
    """The one tuned point of the study's own settings, whatever it sweeps."""
    return points(study.model_copy(update={"sweep": type(study.sweep)()}))[-1]


def at(study: StudyConfig, point: Point) -> StudyConfig:
    """The study with the point's values in the stages they belong to, and no axes left.

    A sweep's seed varies what fine-tuning may vary by chance: which training problems are
    drawn and in which order they come; without that axis both keep their own seeds. Held-out
    problems stay the same.
    """
    decoder = study.decoders[point.decoder] if point.decoder else study.decoder
    values: dict[str, Any] = {}
    if point.tuned:
        values = {SETTINGS[axis]: value for axis, value in point.varied.items()}
        if study.sweep.seed:
            values |= {"dataset.seed": point.seed, "sft.seed": point.seed}
    single = {"decoder": decoder.at(point.temperature), "sweep": type(study.sweep)()}
    return _with_settings(study.model_copy(update=single), values)


def _with_settings(study: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """The study with other values of some settings, by their dotted names: those of the study's
    own, and of its sections."""
    sections: dict[str, dict[str, Any]] = {}
    for setting, value in values.items():
        section, _, name = setting.rpartition(".")
        sections.setdefault(section, {})[name] = value
    own = sections.pop("", {})
    changed = {
        section: getattr(study, section).model_copy(update=update)
        for section, update in sections.items()
    }
    return study.model_copy(update=own | changed)


def check_data(study: StudyConfig) -> None:
    """Refuse settings from which no fine-tuning data can be made, each point of the grid by
    itself: drawing the first example finds what cannot be."""
    _check_axes(study)
    task = build(study.task)
    for point in points(study):
        config = at(study, point).dataset
        task.check_knobs(config)
        synthesis.check(task, config.synthesis)
        if config.synthesis == "none":  # else their number is not known yet
            schedule.saves(task.examples(config), study.sft)
        examples = task.sft_examples(config)
        if task.available("train") < 20 * task.examples(config):
            deque(examples, maxlen=0)  # a small task can run out half way
        else:
            next(iter(examples))


def _check_axes(study: StudyConfig) -> None:
    """Refuse an axis that the task's data does not have."""
    task = build(study.task)
    for axis in DATA_AXES:
        values = getattr(study.sweep, axis)
        if values and axis not in task.knobs:
            data_axes = [name for name in DATA_AXES if name in task.knobs]
            allowed = [*data_axes, *TUNING_AXES, "decoder", "temperature", "seed"]
            raise refuse(
                f"sweep.{axis} has no effect on the data of this task",
                list(values),
                ", ".join(f"sweep.{name}" for name in allowed),
                f"remove sweep.{axis}",
            )
