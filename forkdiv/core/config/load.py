"""Builds a validated `StudyConfig` from YAML and dotted overrides; each error is one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from forkdiv.core.config.shipped import config_file
from forkdiv.core.config.study import DecoderConfig, StudyConfig
from forkdiv.core.config.tasks import DEFAULT_KIND, UNKNOWN_KIND, config_class
from forkdiv.core.errors import UserError, refuse

# Renamed settings: old dotted key -> new dotted key. An old key is refused with the new name, so
# that an old config is never misread.
RENAMED: dict[str, str] = {}


def load(path: Path | None, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a YAML file or a named config and applies `a.b=value` overrides.

    Raises UserError with a one-line message for unknown keys, wrong types and invalid values.
    """
    data = _read_yaml(config_file(path)) if path else {}
    for override in overrides:
        _apply(data, override)
    try:
        return StudyConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(_one_line(error, data)) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(
            "the config cannot be read", path, "a readable YAML file", f"check --config ({error})"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date like 2024-13-45
        problem = " ".join(str(error).split())
        raise refuse(
            "the config is not valid YAML", path, "key: value lines", f"correct it: {problem}"
        ) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise refuse(
            "the config is not a YAML mapping",
            f"{type(data).__name__} in {path}",
            "key: value lines",
            "correct the file",
        )
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise refuse(
            "a setting must be key=value",
            repr(override),
            "dotted.key=value, e.g. sft.epochs=8",
            "add the =",
        )
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise refuse(
            f"the value of {dotted} is not valid YAML", repr(text), "a YAML value", "quote it"
        ) from error
    # YAML 1.1 reads 1e-3 as text; it is a number here unless it is quoted
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(text)
    node = data
    *parents, leaf = dotted.split(".")
    for parent in parents:
        child = node.get(parent) or {}
        if not isinstance(child, dict):
            raise refuse(
                f"{dotted} cannot be set: {parent} is a value, not a section",
                override,
                "a setting that `forkdiv settings` lists",
                f"set {parent} itself",
            )
        # a copy: with a YAML alias, two sections would share one dict
        node[parent] = dict(child)
        node = node[parent]
    node[leaf] = value


def _one_line(error: ValidationError, data: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    value = first.get("input")
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return _unknown_key(first["loc"], value, data) + tail
    if first["type"] == UNKNOWN_KIND:
        kind = value.get("kind") if isinstance(value, Mapping) else value
        allowed = first["ctx"]["allowed"]
        wrong = f"{where}.kind: unknown task, got {kind!r}"
        return f"{wrong}; allowed: {allowed}; correct {where}.kind{tail}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where + ': ' if where else ''}{message}{tail}"
    allowed = message[0].lower() + message[1:]
    shown = value if not isinstance(value, Mapping) else "a section"
    return f"{where}: got {shown!r}; allowed: {allowed}; correct {where} in the config{tail}"


def _unknown_key(loc: Sequence[int | str], value: object, data: Mapping[str, Any]) -> str:
    *parents, leaf = map(str, loc)
    model: type[BaseModel] = StudyConfig
    for at, parent in enumerate(parents):
        if at == 0 and parent == "task":
            model = config_class(data["task"].get("kind", DEFAULT_KIND))
            continue
        if model is DecoderConfig:
            continue  # the user's name of a decoder
        annotation = model.model_fields[parent].annotation
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    known = list(model.model_fields)
    where = ".".join([*parents, leaf])
    if where in RENAMED:
        return f"{where}: renamed, got {value!r}; allowed: {RENAMED[where]}; use {RENAMED[where]}"
    close = difflib.get_close_matches(leaf, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "remove it"
    return f"{where}: unknown key, got {value!r}; allowed: {', '.join(known)}; {hint}"
