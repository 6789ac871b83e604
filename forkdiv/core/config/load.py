"""Builds a validated `StudyConfig` from YAML and dotted overrides; each error is one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from forkdiv.core.config import yaml_text
from forkdiv.core.config.read_axes import set_axis
from forkdiv.core.config.shipped import config_file
from forkdiv.core.config.study import DecoderConfig, StudyConfig
from forkdiv.core.config.tasks import UNKNOWN_KIND, config_class, kind_of
from forkdiv.core.config.yaml_text import MAX_BYTES, Document, InvalidYaml
from forkdiv.core.errors import CAME, UserError, refuse, shortened
from forkdiv.core.files import read_small_text

# Renamed settings: old dotted key -> new dotted key. An old key is refused with the new name, so
# that an old config is never misread.
RENAMED: dict[str, str] = {}
LONG = 120  # characters of a value; a longer one is shortened in messages


def load(path: Path | None, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a YAML file or a named config and applies `a.b=value` overrides.

    Raises UserError with a one-line message for unknown keys, wrong types and invalid values.
    """
    document = _read_file(config_file(path)) if path else Document({}, {}, True)
    data: dict[str, Any] = document.value
    empty = dict(document.empty)
    for override in overrides:
        at = _apply(data, override)
        empty = {key: line for key, line in empty.items() if key[: len(at)] != at}
    try:
        study = StudyConfig.model_validate(data)
    except ValidationError as error:
        loc = tuple(str(part) for part in error.errors(include_url=False)[0]["loc"])
        if loc in empty:
            raise _no_value(".".join(loc), f"nothing on line {empty[loc]} of {path}") from error
        raise UserError(_one_line(error, data)) from error
    for key, line in empty.items():
        if not _is_section(study, key):
            raise _no_value(".".join(key), f"nothing on line {line} of {path}")
    return study


def _read_file(path: Path) -> Document:
    text = read_small_text(path, "the config", MAX_BYTES, "check --config")
    try:
        document = yaml_text.read(text)
    except InvalidYaml as error:
        raise refuse(
            "the config is not valid YAML", path, "key: value lines", f"correct it: {error}"
        ) from error
    if document.is_empty:
        return Document({}, {}, True)
    if not isinstance(document.value, dict):
        raise refuse(
            "the config is not a YAML mapping",
            f"{type(document.value).__name__} in {path}",
            "key: value lines",
            "correct the file",
        )
    return document


def _apply(data: dict[str, Any], override: str) -> tuple[str, ...]:
    """Sets the value in `data`; returns the path of its key."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise refuse(
            "a setting must be key=value",
            repr(shortened(override)),
            "dotted.key=value, e.g. sft.epochs=8",
            "add the =",
        )
    try:
        document = yaml_text.read(text)
    except InvalidYaml as error:
        raise refuse(
            f"the value of {shortened(dotted)} is not valid YAML",
            repr(shortened(text)),
            "a YAML value",
            f"quote it: {error}",
        ) from error
    if document.is_empty or document.empty:
        inner = next(iter(document.empty), ())
        raise _no_value(".".join([dotted, *inner]), repr(shortened(override)))
    if at := set_axis(data, dotted, document.value):
        return at
    node = data
    *parents, leaf = dotted.split(".")
    for parent in parents:
        child = node.get(parent) or {}
        if not isinstance(child, dict):
            raise refuse(
                f"{dotted} cannot be set: {parent} is a value, not a section",
                shortened(override),
                "a setting that `forkdiv settings` lists",
                f"set {parent} itself",
            )
        # a copy: with a YAML alias, two sections would share one dict
        node[parent] = dict(child)
        node = node[parent]
    node[leaf] = document.value
    return (*parents, leaf)


def _no_value(dotted: str, came: str) -> UserError:
    """An empty value is null in YAML. It is refused: where a variable of a shell or a template is
    not set, null would silently mean another model or other data."""
    dotted = shortened(dotted)
    return refuse(
        f"{dotted} has no value",
        f"{came} (is a variable not set?)",
        "a value, or null",
        f"write the value, or {dotted}=null if none is meant, or remove {dotted} for its default",
    )


def _is_section(study: StudyConfig, key: Sequence[str]) -> bool:
    node: object = study
    for part in key:
        node = node.get(part) if isinstance(node, dict) else getattr(node, part, None)
    return isinstance(node, BaseModel)


def _one_line(error: ValidationError, data: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    where = shortened(".".join(map(str, first["loc"])))
    value = first.get("input")
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return _unknown_key(first["loc"], value, data) + tail
    if first["type"] == UNKNOWN_KIND:
        kind = value.get("kind") if isinstance(value, Mapping) else value
        allowed = first["ctx"]["allowed"]
        wrong = f"{where}.kind: unknown task, got {_shown(kind)}"
        return f"{wrong}; allowed: {allowed}; correct {where}.kind{tail}"
    message = _without_long_values(first["msg"].removeprefix("Value error, "), value)
    message = shortened(message, CAME)
    if first["type"] == "value_error":
        return f"{where + ': ' if where else ''}{message}{tail}"
    allowed = message[0].lower() + message[1:]
    remedy = f"correct {where} in the config"
    if first["type"] in ("string_type", "path_type") and isinstance(value, bool | int | float):
        remedy = f"quote it if it is meant as text: {where}='\"{value}\"' in a shell"
    return f"{where}: got {_shown(value)}; allowed: {allowed}; {remedy}{tail}"


def _without_long_values(message: str, value: object) -> str:
    """Returns the message of a validator with the long values in it shortened."""
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            message = _without_long_values(message, inner)
    if len(message) <= LONG:
        return message
    for text in (repr(value), str(value)):
        if len(text) > LONG:
            message = message.replace(text, shortened(text))
    return message


def _shown(value: object) -> str:
    """Returns a value for a message. Numbers that Python cannot print are shown by their size."""
    if isinstance(value, Mapping):
        return "'a section'"
    if isinstance(value, int) and value.bit_length() > 400:
        return f"an integer of {value.bit_length()} bits"
    return shortened(repr(value))


def _unknown_key(loc: Sequence[int | str], value: object, data: Mapping[str, Any]) -> str:
    *parents, leaf = map(str, loc)
    model: type[BaseModel] = StudyConfig
    for at, parent in enumerate(parents):
        if at == 0 and parent == "task":
            model = config_class(kind_of(data["task"]))
            continue
        if model is DecoderConfig:
            continue  # the user's name of a decoder
        annotation = model.model_fields[parent].annotation
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    known = list(model.model_fields)
    where = shortened(".".join([*parents, leaf]))
    if where in RENAMED:
        new = RENAMED[where]
        return f"{where}: renamed, got {_shown(value)}; allowed: {new}; use {new}"
    close = difflib.get_close_matches(leaf, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "remove it"
    return f"{where}: unknown key, got {_shown(value)}; allowed: {', '.join(known)}; {hint}"
