"""Reads the values of `sweep.axes`, and validates each with the type of its own field."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from forkdiv.core.config.axes import (
    ALIAS_OF_PATH,
    DECODER,
    ONE_FOR_EACH,
    SEED,
    AxisField,
    axis_fields,
    reason_against,
)
from forkdiv.core.config.axis_range import ENDS, AxisRange
from forkdiv.core.config.base import members
from forkdiv.core.config.sweep import ALIASES, SweepConfig
from forkdiv.core.errors import CAME, shortened
from forkdiv.core.hub_names import is_name

Values = tuple[Any, ...] | AxisRange


def read_axes(
    sweep: Mapping[str, Any], root: type[BaseModel], task: type[BaseModel]
) -> dict[str, Any]:
    """Returns the settings of `sweep` with `axes` by path, each value validated by its own field.
    A list on an axis with a short name is moved to the field of that name.

    Raises ValueError with a one-line message.
    """
    given = list(flat(sweep.get("axes") or {}))
    ranges = [key for key in ALIASES if isinstance(sweep.get(key), Mapping)]
    given += [(key, sweep[key]) for key in ranges]
    fields = axis_fields(root, task)
    read = {key: value for key, value in sweep.items() if key not in ("axes", *ranges)}
    _refuse_fields_outside_axes(read, fields)
    axes: dict[str, Values] = {}
    for name, values in given:
        path = ALIASES.get(name, name)
        alias = ALIAS_OF_PATH.get(path)
        where = f"sweep.{name}" if name in ALIASES else f"sweep.axes.{name}"
        axis = _known(path, where, values, fields)
        if path in axes or (alias and read.get(alias)):
            raise ValueError(
                f"{where} is set twice, as {path} and by another name; allowed: one of them; "
                "remove the other"
            )
        value = read_values(values, axis, where)
        if alias and not isinstance(value, AxisRange):
            read[alias] = list(value)
        elif value != ():
            axes[path] = value
    order = [*fields, SEED, DECODER]
    axes = {path: axes[path] for path in sorted(axes, key=order.index)}
    return read | ({"axes": axes} if axes else {})


def flat(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the paths and the values of `sweep.axes`, whose paths may be nested sections."""
    for key, value in node.items():
        if isinstance(value, Mapping) and not any(end in value for end in ENDS):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def set_axis(data: dict[str, Any], dotted: str, values: object) -> tuple[str, ...]:
    """Sets an axis in the raw settings of a study, in place of the same axis under another name,
    if `dotted` names one. Returns the path of its key; () if `dotted` does not name an axis."""
    section, _, name = dotted.partition(".")
    is_path = name.startswith("axes.")
    name = name.removeprefix("axes.")
    sweep = data.get("sweep") or {}
    if section != "sweep" or not (is_path or name in ALIASES) or not isinstance(sweep, Mapping):
        return ()
    axes = sweep.get("axes") or {}
    if not isinstance(axes, Mapping):
        return ()
    path = ALIASES.get(name, name)
    others = {key: value for key, value in flat(axes) if ALIASES.get(key, key) != path}
    sweep = {
        key: value for key, value in sweep.items() if key != "axes" and ALIASES.get(key) != path
    }
    if is_path:
        others[name] = values
    else:
        sweep[name] = values
    data["sweep"] = sweep | ({"axes": others} if others else {})
    return ("sweep", *(["axes", *name.split(".")] if is_path else [name]))


def _known(path: str, where: str, values: object, fields: Mapping[str, AxisField]) -> AxisField:
    """Returns the field of a path; raises ValueError if no study can vary it."""
    shown = shortened(str(values), CAME)
    if path in (SEED, DECODER):
        return AxisField(path, _item_of(path))
    if reason := reason_against(path):
        raise ValueError(
            f"{where} cannot be varied, because it {reason}: got {shown}; allowed: the axes of "
            f"docs/sweeps.md; "
            + (
                "run one study for each value"
                if reason in ONE_FOR_EACH.values()
                else f"remove {where}"
            )
        )
    if path in fields:
        return fields[path]
    below = [name for name in fields if name.startswith(f"{path}.")]
    if below:
        raise ValueError(
            f"{where} is a section: got {shown}; allowed: one of its settings, such as {below[0]}; "
            "name the setting"
        )
    allowed = [name for name in fields if not reason_against(name)]
    close = difflib.get_close_matches(path, [*allowed, *ALIASES], n=1, cutoff=0.5)
    hint = next(iter([*_by_last_part(path, allowed), *close]), "")
    raise ValueError(
        f"{where} is an unknown setting: got {shown}; allowed: a setting that "
        f"`forkdiv settings` lists, by its path; "
        + (f"did you mean {hint}?" if hint else f"remove {where}")
    )


def _by_last_part(path: str, allowed: Iterable[str]) -> list[str]:
    """Returns the paths that end as `path` does."""
    return [name for name in allowed if name.split(".")[-1] == path.split(".")[-1]]


def _refuse_fields_outside_axes(sweep: Mapping[str, Any], fields: Mapping[str, AxisField]) -> None:
    """Raises ValueError for `sweep.learning_rate`, which has no short name, with its path."""
    for key, value in sweep.items():
        if key not in SweepConfig.model_fields:
            allowed = [name for name in fields if not reason_against(name)]
            for path in _by_last_part(str(key), allowed)[:1]:
                raise ValueError(
                    f"sweep.{key}: unknown key, got {shortened(str(value))}; allowed: "
                    f"{', '.join(SweepConfig.model_fields)}; did you mean sweep.axes.{path}?"
                )


def _item_of(alias: str) -> FieldInfo:
    """Returns the field of one value of an axis that has a short name and no setting of its own."""
    item = SweepConfig.model_fields[alias].annotation
    return FieldInfo.from_annotation(item.__args__[0])  # type: ignore[union-attr]


def read_values(given: object, axis: AxisField, where: str) -> Values:
    """Returns the validated values of an axis. Raises ValueError with a one-line message."""
    if isinstance(given, AxisRange):
        given = given.model_dump()
    if isinstance(given, Mapping):
        return _range(given, axis, where)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(
            f"{where} is not a list: got {shortened(repr(given))}; allowed: a list of values, "
            f"{{range: [low, high]}} or {{log: [low, high]}}; write {where}=[…]"
        )
    values = tuple(_one(value, axis, f"{where}.{at}") for at, value in enumerate(given))
    texts = [json.dumps(value, default=str, sort_keys=True) for value in values]
    if len(set(texts)) < len(texts):
        raise ValueError(
            f"{axis.path} has a value twice: {shortened(str(list(given)), CAME)}; allowed: each "
            f"value once; correct {where}"
        )
    return values


def _range(given: Mapping[str, Any], axis: AxisField, where: str) -> Values:
    if not axis.is_number:
        raise ValueError(
            f"{where} is not a number: got the range {dict(given)}; allowed: a list of values; "
            f"list them"
        )
    try:
        span = AxisRange.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join([where, *map(str, first["loc"])])
        raise ValueError(f"{at}: {_sentence(first, given, where)}") from error
    for end in span.ends:
        _one(int(end) if end == int(end) else end, axis, where)
    if not span.is_list:
        return span
    numbers = [round(n) if axis.is_integer else n for n in span.numbers]
    return tuple(_one(number, axis, where) for number in dict.fromkeys(numbers))


def _one(value: object, axis: AxisField, where: str) -> Any:
    """Returns the value as its field reads it."""
    if isinstance(value, bool) and bool not in members(axis.field.annotation):
        raise ValueError(
            f"{where} does not accept true or false: got {value}; allowed: a number or text, see "
            f"`forkdiv settings {axis.path}`; correct it, or quote it if it is meant as text"
        )
    try:
        read = axis.adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{where}: {_sentence(first, value, where)}") from error
    if isinstance(read, Path) and is_name(read):
        raise ValueError(
            f"{where} is a name on the Hugging Face Hub: got {read}; allowed: paths on this "
            f"machine, for an axis; download it, and correct {where}"
        )
    return read


def _sentence(error: Any, value: object, where: str) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":  # a validator's own message has a remedy
        return shortened(message, CAME)
    came = shortened(repr(error.get("input", value)))
    return f"got {came}; allowed: {message[0].lower()}{message[1:]}; correct {where}"
