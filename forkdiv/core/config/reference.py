"""Every setting as data, from the config models: what `forkdiv settings` and the docs show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forkdiv.core.config.base import Unit, members
from forkdiv.core.config.open_list import OpenList
from forkdiv.core.config.shipped import PACKAGE, bases, unknown_name
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.tasks import KINDS, config_class
from forkdiv.core.errors import UserError

OWN = "study"  # how a user calls the settings that stand in no section
KIND = "Chooses this task."
TASK = ".task"  # the section whose settings depend on task.kind
WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}


@dataclass(frozen=True)
class Setting:
    """One setting. `section` is where it is listed (`place.engine`, `task.file`; empty for the
    study's own), `key` what a user writes before the =, `default` a YAML value."""

    section: str
    key: str
    type: str
    default: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A group of settings, with the sentence that says what it is about."""

    name: str
    meaning: str
    settings: tuple[Setting, ...]


def sections() -> list[Section]:
    """All settings by section, in the order of the config: a section a task, too."""
    found = list(_sections("", StudyConfig, StudyConfig()))
    tasks = [_task_section(kind) for kind in KINDS.names()]
    at_task = 1  # after the study's own
    return [*found[:at_task], *tasks, *found[at_task:]]


def chosen(name: str | None) -> list[Section]:
    """The sections that `name` means: `sft`, `place` with its parts, `task` with every task,
    `task.file`, or the section with that one setting for `sft.epochs`. None: all.

    Raises UserError for an unknown name, with the nearest one.
    """
    every = sections()
    if name is None:
        return every
    if name == OWN:
        return [one for one in every if not one.name]
    inside = [one for one in every if one.name == name or one.name.startswith(f"{name}.")]
    if inside:
        return inside
    single = [
        Section(one.name, one.meaning, tuple(item for item in one.settings if item.key == name))
        for one in every
    ]
    if any(one.settings for one in single):
        return [one for one in single if one.settings]
    keys = [item.key for one in every for item in one.settings]
    raise _unknown(name, [one.name for one in every if one.name], keys)


def _unknown(name: str, names: Iterable[str], keys: Iterable[str]) -> UserError:
    error = unknown_name("there is no such section", name, names, "a setting, or one of")
    near = unknown_name("there is no such setting", name, keys, "")
    if "did you mean" in str(near) and "did you mean" not in str(error):
        suggestion = str(near).rpartition("; ")[2]
        return UserError(f"{str(error).rpartition('; ')[0]}; {suggestion}")
    return UserError(str(error).replace("forkdiv configs", "forkdiv settings"))


def _task_section(kind: str) -> Section:
    model = config_class(kind)
    defaults = model.model_validate({"kind": kind})
    settings = tuple(_settings(f"task.{kind}", "task", model, defaults))
    return Section(f"task.{kind}", _doc(model), settings)


def _sections(name: str, model: type[BaseModel], defaults: BaseModel | None) -> Iterator[Section]:
    """A model's own settings, then its sections one by one."""
    own = tuple(_settings(name, name, model, defaults))
    if own:
        yield Section(name, _doc(model), own)
    for key, field in model.model_fields.items():
        inner = _model_of(field)
        if inner is not None and f"{name}.{key}" != TASK:
            below = f"{name}.{key}" if name else key
            yield from _sections(below, inner, getattr(defaults, key))


def _settings(
    section: str, prefix: str, model: type[BaseModel], defaults: BaseModel | None
) -> Iterator[Setting]:
    """The settings of one model; those of a task's own sections too, which have no other place."""
    for key, field in model.model_fields.items():
        dotted = f"{prefix}.{key}" if prefix else key
        if f"{prefix}.{key}" == TASK:
            continue
        inner = _model_of(field)
        default = getattr(defaults, key)
        if inner is None:
            yield Setting(
                section,
                dotted,
                _type_of(field),
                _written(default),
                _unit_of(field),
                field.description or (KIND if key == "kind" else ""),
            )
        elif prefix.startswith("task"):
            yield from _settings(section, dotted, inner, default)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The config class of a field that is a section of its own."""
    kinds_ = members(field.annotation)
    if len(kinds_) == 1 and isinstance(kinds_[0], type) and issubclass(kinds_[0], BaseModel):
        inner: type[BaseModel] = kinds_[0]
        return inner
    return None


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _written(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, Path):
        return _path_written(value)
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else _text(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_written(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{}" if not value else json.dumps(value)
    raise TypeError(f"no setting has a default of type {type(value).__name__}")


def _text(value: str) -> str:
    """Plain where YAML reads it back as it stands."""
    return value if value.isprintable() and value and value[0].isalnum() else json.dumps(value)


def _path_written(value: Path) -> str:
    """As a user would write it: a shipped base by its name, a path from the current folder."""
    for name, folder in bases().items():
        if value == folder:
            return name
    assert not value.is_relative_to(PACKAGE)
    return str(value.relative_to(Path.cwd()) if value.is_relative_to(Path.cwd()) else value)


def _type_of(field: FieldInfo) -> str:
    return _named(field.annotation, list(field.metadata))


def _named(annotation: Any, metadata: list[Any]) -> str:
    """A type in words with its limits: `integer, at least 1, or null`."""
    annotation, metadata = _unwrapped(annotation, metadata)
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        parts = [one for one in get_args(annotation) if one is not type(None)]
        named = " or ".join(_named(part, metadata) for part in parts)
        return f"{named}, or null" if len(parts) < len(get_args(annotation)) else named
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if origin is tuple:
        return f"list of: {_named(get_args(annotation)[0], [])}"
    if origin is dict:
        is_section = isinstance(value := get_args(annotation)[1], type) and issubclass(
            value, BaseModel
        )
        return "sections by name" if is_section else "values by name"
    for one in metadata:
        if isinstance(one, OpenList):
            return f"one of {', '.join(one.names())}"
    return ", ".join([WORDS[annotation], *_limits(metadata)])


def _unwrapped(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """Without `Annotated`, whose parts join the metadata; a later limit replaces an earlier."""
    while get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        flat = [m for one in more for m in (one.metadata if isinstance(one, FieldInfo) else [one])]
        annotation, metadata = inner, [*flat, *metadata]
    return annotation, metadata


def _limits(metadata: Iterable[Any]) -> list[str]:
    low: list[tuple[float, str]] = []
    high: list[tuple[float, str]] = []
    for one in metadata:
        if isinstance(one, at.Ge):
            low.append((_float(one.ge), "at least"))
        elif isinstance(one, at.Gt):
            low.append((_float(one.gt), "more than"))
        elif isinstance(one, at.Le):
            high.append((_float(one.le), "at most"))
        elif isinstance(one, at.Lt):
            high.append((_float(one.lt), "below"))
    # the strictest of several: `more than 0` over `at least 0`
    ends = [
        max(low, default=None),
        min(high, key=lambda end: (end[0], end[1] != "below"), default=None),
    ]
    return [f"{word} {_number(limit)}" for end in ends if end for limit, word in [end]]


def _float(limit: Any) -> float:
    return float(limit)


def _number(limit: float) -> str:
    return f"{int(limit):,}" if limit == int(limit) else f"{limit:g}"


def _unit_of(field: FieldInfo) -> str:
    return next(_units(field.annotation, list(field.metadata)), "")


def _units(annotation: Any, metadata: list[Any]) -> Iterator[str]:
    annotation, metadata = _unwrapped(annotation, metadata)
    yield from (one.name for one in metadata if isinstance(one, Unit))
    if get_origin(annotation) in (Union, UnionType, tuple):
        for part in get_args(annotation):
            yield from _units(part, [])
