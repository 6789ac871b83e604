"""The search space of a study: the points that its trials measure, those of the base included.

`points` lists the trials of a search that is known before it starts (grid and random);
`tuning.search` has the searcher that chooses points from results.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from forkdiv.core.config.axes import (
    DECODER,
    SEED,
    TEMPERATURE,
    TRAIN_SEED,
    is_read_by_training,
    shown_value,
)
from forkdiv.core.config.axis_names import is_measured, key_of, label, path_of
from forkdiv.core.config.changed import changed
from forkdiv.core.config.study import AXES, DATA_AXES, DatasetConfig, StudyConfig, SweepConfig
from forkdiv.core.config.sweep import ALIASES
from forkdiv.core.errors import refuse
from forkdiv.core.results import Axis, CellName
from forkdiv.forks import synthesis
from forkdiv.tasks.base import too_few
from forkdiv.tasks.registry import build
from forkdiv.train import schedule
from tuning.draws import domains, draws

MOST_IN_NAME = 96  # characters of a trial's name in the names of files and folders
MOST_PER_PROBLEM = 100  # examples of one problem: above what any setting of the data allows


@dataclass(frozen=True)
class Point:
    """The settings of one trial. With `tuned` False, the trial evaluates the base model.

    `settings` are the keys and values of the axes that the study varies, in their order: for the
    base only those that change how models are measured. `decoder` is a decoder's name if the study
    varies decoders by name.
    """

    temperature: float
    seed: int
    tuned: bool = True
    decoder: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()

    def __hash__(self) -> int:
        """Of the name: values may be lists and mappings, which have no hash."""
        return hash(self.name)

    @property
    def varied(self) -> dict[str, float | int | str]:
        """The values of the axes that the study varies, by key."""
        shown = {key: shown_value(value) for key, value in self.settings}
        return {key: "null" if value is None else value for key, value in shown.items()}

    @property
    def axes(self) -> dict[str, Axis]:
        """The values of all axes, by key; None for axes that the study does not vary."""
        own = {key: shown_value(value) for key, value in self.settings}
        return dict.fromkeys(AXES) | own

    @property
    def tuned_settings(self) -> dict[str, Any]:
        """The values of the axes that change the tuned models only, by key."""
        return {key: value for key, value in self.settings if not is_measured(key)}

    @property
    def measured_settings(self) -> dict[str, Any]:
        """The values of the axes that change how models are measured, the base as well, by key."""
        return {key: value for key, value in self.settings if is_measured(key)}

    @property
    def trained_as(self) -> tuple[object, ...]:
        """What distinguishes the trainings of a study: points for which it is equal share one."""
        values = [(k, str(v)) for k, v in self.settings if is_read_by_training(path_of(k))]
        return (self.tuned, *((self.seed, *values) if self.tuned else ()))

    @property
    def without_decoder(self) -> Point:
        """The point without its decoder, equal for all decoders with which a model is measured."""
        settings = [(k, v) for k, v in self.settings if path_of(k).split(".")[0] != DECODER]
        return replace(self, temperature=0.0, decoder=None, settings=tuple(settings))

    @property
    def measured_as(self) -> str | None:
        """The name of the way of measuring in results: the decoder's name and the values of the
        axes that change how models are measured; None if the study varies neither."""
        parts = [self.decoder] if self.decoder else []
        parts += _texts(self.measured_settings)
        return " ".join(parts) or None

    def cell_name(self, epoch: float | None) -> CellName:
        """Returns the name of the trial's cells; `epoch` is that of the checkpoint, or None."""
        return CellName(
            axes=self.axes,
            tuned=self.tuned,
            epoch=epoch,
            temperature=self.temperature,
            seed=self.seed,
            decoder=self.measured_as,
        )

    @property
    def name(self) -> str:
        """The trial's name in progress lines, tables and MLflow, such as `density=0.5 T=1`."""
        model = " ".join(_texts(self.tuned_settings) or ["tuned"]) if self.tuned else "base"
        seed = f" seed={self.seed}" if self.seed and self.tuned else ""
        measured = f" {self.measured_as}" if self.measured_as else ""
        return f"{model}{measured} T={_short(self.temperature)}{seed}"

    @property
    def file_name(self) -> str:
        """The name for files and folders; different for different points."""
        plain = self.name.replace(" ", "_").replace("=", "")
        safe = re.sub(r"[^\w.+-]", "-", plain, flags=re.ASCII)
        if safe == plain and len(safe) <= MOST_IN_NAME:
            return safe
        return f"{safe[:MOST_IN_NAME]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"


def _texts(values: Mapping[str, Any]) -> list[str]:
    return [f"{label(key)}={_short(shown_value(value))}" for key, value in values.items()]


def _short(value: Axis) -> str:
    """Returns the shortest text that is different for different values."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return value
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def axes(study: StudyConfig) -> tuple[str, ...]:
    """Returns the keys of the axes that tell the study's tuned models apart; if it varies none, the
    first axis of the task's data."""
    varied = tuple(key_of(path) for path in _paths(study) if _tells_models_apart(path))
    if varied:
        return varied
    return tuple(axis for axis in DATA_AXES if axis in build(study.task).knobs)[:1]


def points(study: StudyConfig) -> list[Point]:
    """Returns the points of a search that is known before it starts: first the base, once for each
    way in which models are measured, then the tuned models. In a grid, the points of a model follow
    each other; the first of them trains it.

    The points that search=optuna will choose are not known. Its place take points that are drawn
    from the same axes: for checks and estimates before the search.
    """
    is_grid = study.sweep.search == "grid"
    tuned = [point_of(study, values) for values in (_grid if is_grid else draws)(study)]
    return [*base_points(tuned), *tuned]


def is_open(study: StudyConfig) -> bool:
    """Whether the trials of the study are not known before it starts."""
    return study.sweep.search == "optuna" or study.sweep.hours is not None


def base_points(tuned: Iterable[Point]) -> list[Point]:
    """Returns the points of the base that measure it as the tuned points measure their models."""
    tuned = list(tuned)
    ways = [
        Point(
            point.temperature,
            tuned[0].seed,
            tuned=False,
            decoder=point.decoder,
            settings=tuple(point.measured_settings.items()),
        )
        for point in tuned
    ]
    return list(dict.fromkeys(ways))


def point_of(study: StudyConfig, values: Mapping[str, Any]) -> Point:
    """Returns the tuned point with these values by path; a study without an axis of its models
    names the point by the first axis of the task's data."""
    name = values.get(DECODER)
    decoder = study.decoders[name] if name else study.decoder
    settings = {
        key_of(path): json.loads(json.dumps(value, default=str))  # as it is read back from a file
        for path, value in values.items()
        if path not in (SEED, TRAIN_SEED, DECODER, TEMPERATURE)
    }
    if not any(_tells_models_apart(path) for path in study.sweep.by_path):
        settings |= {axis: getattr(study.dataset, axis) for axis in axes(study)}
    return Point(
        temperature=values.get(TEMPERATURE, decoder.temperature),
        seed=values.get(SEED, values.get(TRAIN_SEED, study.sft.seed)),
        decoder=name,
        settings=tuple(settings.items()),
    )


def _tells_models_apart(path: str) -> bool:
    """Whether the axis is one of the tuned models, and no repetition with another seed."""
    return path not in (SEED, TRAIN_SEED, DECODER) and not is_measured(key_of(path))


def _paths(study: StudyConfig) -> list[str]:
    """Returns the paths of the axes, in the order of the config."""
    return [domain.path for domain in domains(study)]


def _grid(study: StudyConfig) -> Iterator[dict[str, Any]]:
    """Yields every combination of the values. The seeds change last, the axes that do not change
    the model first, so that the trials of a model follow each other."""
    values = {domain.path: domain.values for domain in domains(study)}
    seeds = [path for path in values if path in (SEED, TRAIN_SEED)]
    models = [path for path in values if _tells_models_apart(path)]
    decoders = [path for path in values if path == DECODER]
    measured = [path for path in values if path not in (*seeds, *models, *decoders, TEMPERATURE)]
    temperatures = [path for path in values if path == TEMPERATURE]
    order = [*seeds, *models, *decoders, *measured, *temperatures]
    for combination in product(*(values[path] for path in order)):
        yield dict(zip(order, combination, strict=True))


def single_point(study: StudyConfig) -> Point:
    """Returns the tuned point with the study's settings, without its sweep."""
    return points(study.model_copy(update={"sweep": SweepConfig()}))[-1]


def at(study: StudyConfig, point: Point) -> StudyConfig:
    """Returns the study with the point's values and without a sweep.

    The axis `seed` varies the randomness of fine-tuning: which training problems are drawn, and
    their order. Without that axis, both keep their seeds. Held-out problems stay the same.

    Raises UserError if the settings do not fit each other.
    """
    decoder = study.decoders[point.decoder] if point.decoder else study.decoder
    settings = point.settings if point.tuned else tuple(point.measured_settings.items())
    values = {path_of(key): value for key, value in settings}
    values[TEMPERATURE] = point.temperature
    if point.tuned and SEED in study.sweep.by_path:
        values |= {"dataset.seed": point.seed, TRAIN_SEED: point.seed}
    if point.tuned and TRAIN_SEED in study.sweep.by_path:
        values[TRAIN_SEED] = point.seed
    plain = study.model_copy(update={"decoder": decoder, "sweep": SweepConfig()})
    return changed(plain, values)


def ways_of_measuring(study: StudyConfig) -> list[StudyConfig]:
    """Returns the settings under which the base is measured: one study for each way."""
    return [at(study, point) for point in points(study) if not point.tuned]


def check_data(study: StudyConfig) -> None:
    """Raises UserError for settings from which no fine-tuning data can be generated, and for a
    point whose settings do not fit each other. For every training it generates the first example,
    which raises for impossible settings."""
    _check_axes(study)
    checked: set[tuple[object, ...]] = set()
    for point in points(study):
        there = at(study, point)
        if point.trained_as in checked:
            continue
        checked.add(point.trained_as)
        _check_training_data(there)
        _check_held_out(study, point)


def _check_training_data(study: StudyConfig) -> None:
    task, config = build(study.task), study.dataset
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


def _check_held_out(study: StudyConfig, point: Point) -> None:
    """Raises UserError for an axis of the training data that changes the held-out problems, on
    which the base and the tuned models are compared."""
    paths = [p for p in map(path_of, point.tuned_settings) if p.startswith("task.")]
    if not paths or not point.tuned:
        return
    (base,) = base_points([point])
    tuned, plain = (
        build(there.task).heldout(there.eval.split, there.eval.problems)
        for there in (at(study, point), at(study, base))
    )
    if tuned != plain:
        raise refuse(
            f"sweep.axes.{paths[0]} changes the held-out problems",
            point.name,
            "the same held-out problems for every value",
            "set task.test to a file of held-out problems",
        )


def _check_axes(study: StudyConfig) -> None:
    """Raises UserError for an axis that the task's data does not have."""
    knobs = build(study.task).knobs
    without = {f"dataset.{name}" for name in DatasetConfig.knobs() - knobs}
    for path, values in study.sweep.by_path.items():
        if path in without:
            allowed = [alias for alias, own in ALIASES.items() if own not in without]
            name = key_of(path) if key_of(path) in ALIASES else f"axes.{path}"
            raise refuse(
                f"sweep.{name} has no effect on this task",
                list(values) if isinstance(values, tuple) else values.model_dump(),
                ", ".join(f"sweep.{name}" for name in allowed),
                f"remove sweep.{name}",
            )
