"""A study with other values of some settings, validated as if they had been in its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError, refuse

Model = TypeVar("Model", bound=BaseModel)


def changed(study: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """Returns the study with new values of the settings with these paths (`sft.lora.rank`).

    Raises UserError if the settings do not fit each other.
    """
    if not values:
        return study
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    try:
        return _with(study, tree).with_sources({}, study.sources)
    except ValidationError as error:
        raise _refusal(error, values) from error


def _with(model: Model, tree: Mapping[str, Any]) -> Model:
    """Returns the model with the values of `tree`, in which a mapping at a section goes into it.
    Settings that were not set stay so, and sections that do not change are not validated again."""
    own = {name: getattr(model, name) for name in model.model_fields_set}
    new = {
        name: _with(section, value)
        if isinstance(section := getattr(model, name), BaseModel) and isinstance(value, Mapping)
        else value
        for name, value in tree.items()
    }
    return type(model).model_validate(own | new)


def _refusal(error: ValidationError, values: Mapping[str, Any]) -> UserError:
    first = error.errors(include_url=False)[0]
    shown = ", ".join(f"{path}={value}" for path, value in values.items())
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error":
        return UserError(f"the settings {shown} of this study do not fit each other: {message}")
    where = ".".join(map(str, first["loc"]))
    return refuse(
        f"the settings {shown} of this study do not fit each other: {where}",
        first.get("input"),
        message[0].lower() + message[1:],
        "correct sweep",
    )
