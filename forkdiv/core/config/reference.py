"""All settings as data, read from the config models, for `forkdiv settings` and the docs."""

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

TOP_LEVEL = "study"  # the name for users of the settings that are in no section
KIND = "Chooses this task."
TASK = ".task"  # the section whose settings depend on task.kind
WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}


@dataclass(frozen=True)
class Setting:
    """One setting. `section` is where it is listed (`place.engine`, `task.file`; empty at the top
    level), `key` what a user writes before the =, `default` a YAML value."""

    section: str
    key: str
    type: str
    default: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A group of settings with a sentence that describes it."""

    name: str
    meaning: str
    settings: tuple[Setting, ...]


def sections() -> list[Section]:
    """Returns all settings by section in the order of the config, with a section for each task."""
    top_level, *others = _sections("", StudyConfig, StudyConfig())
    return [top_level, *(_task_section(kind) for kind in KINDS.names()), *others]


def select_sections(name: str | None) -> list[Section]:
    """Returns the sections that `name` selects: `sft`, `place` with its parts, `task` with every
    task, `task.file`, or for `sft.epochs` its section with that setting only. None: all.

    Raises UserError for an unknown name, with the nearest known name.
    """
    every = sections()
    if name is None:
        return every
    if name == TOP_LEVEL:
        return [section for section in every if not section.name]
    inside = [
        section for section in every if section.name == name or section.name.startswith(f"{name}.")
    ]
    if inside:
        return inside
    for section in every:
        if settings := tuple(setting for setting in section.settings if setting.key == name):
            return [Section(section.name, section.meaning, settings)]
    keys = [setting.key for section in every for setting in section.settings]
    raise _unknown(name, [section.name for section in every if section.name], keys)


def _unknown(name: str, names: Iterable[str], keys: Iterable[str]) -> UserError:
    error = unknown_name("unknown section of settings", name, names, "a setting, or one of")
    near = unknown_name("unknown setting", name, keys, "")
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
    """Yields the section of a model's direct settings, then its nested sections."""
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
    """Yields the settings of one model. A task's nested sections are included, since they are not
    listed separately."""
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
                _yaml_text(default),
                _unit_of(field),
                field.description or (KIND if key == "kind" else ""),
            )
        elif prefix.startswith("task"):
            yield from _settings(section, dotted, inner, default)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the config class of a field that is a nested section, else None."""
    types = members(field.annotation)
    if len(types) == 1 and isinstance(types[0], type) and issubclass(types[0], BaseModel):
        inner: type[BaseModel] = types[0]
        return inner
    return None


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _yaml_text(value: Any) -> str:
    """Returns a default value as YAML text."""
    if isinstance(value, Path):
        return _path_text(value)
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else _text(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_yaml_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{}" if not value else json.dumps(value)
    raise TypeError(f"no setting has a default of type {type(value).__name__}")


def _text(value: str) -> str:
    """Returns the text without quotes if YAML reads it back unchanged."""
    return value if value.isprintable() and value and value[0].isalnum() else json.dumps(value)


def _path_text(value: Path) -> str:
    """Returns a path as a user would write it: the name of a shipped base, or a path relative to
    the current folder."""
    for name, folder in bases().items():
        if value == folder:
            return name
    assert not value.is_relative_to(PACKAGE)
    return str(value.relative_to(Path.cwd()) if value.is_relative_to(Path.cwd()) else value)


def _type_of(field: FieldInfo) -> str:
    return _type_text(field.annotation, list(field.metadata))


def _type_text(annotation: Any, metadata: list[Any]) -> str:
    """Returns a type with its limits in words: `integer, at least 1, or null`."""
    annotation, metadata = _unwrapped(annotation, metadata)
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        parts = [member for member in get_args(annotation) if member is not type(None)]
        named = " or ".join(_type_text(part, metadata) for part in parts)
        return f"{named}, or null" if len(parts) < len(get_args(annotation)) else named
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if origin is tuple:
        return f"list of: {_type_text(get_args(annotation)[0], [])}"
    if origin is dict:
        is_section = isinstance(value := get_args(annotation)[1], type) and issubclass(
            value, BaseModel
        )
        return "sections by name" if is_section else "values by name"
    for entry in metadata:
        if isinstance(entry, OpenList):
            return f"one of {', '.join(entry.names())}"
    return ", ".join([WORDS[annotation], *_limits(metadata)])


def _unwrapped(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """Returns the type inside `Annotated`, with the metadata of `Annotated` before `metadata`."""
    while get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        nested = [
            item
            for entry in more
            for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])
        ]
        annotation, metadata = inner, [*nested, *metadata]
    return annotation, metadata


def _limits(metadata: Iterable[Any]) -> list[str]:
    low: list[tuple[float, str]] = []
    high: list[tuple[float, str]] = []
    for limit in metadata:
        if isinstance(limit, at.Ge):
            low.append((_float(limit.ge), "at least"))
        elif isinstance(limit, at.Gt):
            low.append((_float(limit.gt), "more than"))
        elif isinstance(limit, at.Le):
            high.append((_float(limit.le), "at most"))
        elif isinstance(limit, at.Lt):
            high.append((_float(limit.lt), "below"))
    # the strictest limit: `more than 0` replaces `at least 0`
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
    yield from (entry.name for entry in metadata if isinstance(entry, Unit))
    if get_origin(annotation) in (Union, UnionType, tuple):
        for part in get_args(annotation):
            yield from _units(part, [])
