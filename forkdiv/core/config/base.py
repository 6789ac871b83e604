"""The base class of all configs (immutable, refuses unknown keys), and field types with units."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from forkdiv.core.hub_names import dataset_or_path, path_text


@dataclass(frozen=True)
class Unit:
    """The unit of a number: part of a field's type, shown by `forkdiv settings`."""

    name: str


@dataclass(frozen=True, eq=False)
class AxisWords:
    """How results name a setting that a study varies: part of a field's type. Without it, a setting
    has its own name, and its description says what it is.

    `short` is its name in the names of trials, `title` its name in reports. `meaning` continues a
    sentence that begins with the title. `phrase` is a value in a sentence, such as `{} loss`, and
    `phrases` has the values for which it reads differently. With `stands_alone`, a value needs no
    name. With `of_data`, a setting of a task changes the fine-tuning data only, so that the base is
    not measured for each value. `forks` and `signs` say which terms a report has to explain.
    """

    short: str = ""
    title: str = ""
    meaning: str = ""
    phrase: str = ""
    phrases: Mapping[str, str] = field(default_factory=dict)
    stands_alone: bool = False
    of_data: bool = False
    forks: bool = False
    signs: bool = False


def _supported_by_vllm(temperature: float) -> float:
    """vLLM raises temperatures between 0 and 0.01 to 0.01, with a warning only."""
    if 0 < temperature < 0.01:
        raise ValueError(
            f"got {temperature}; allowed: 0 (greedy), or 0.01 and more: "
            "vLLM would use 0.01 for values between them; correct the temperature"
        )
    return temperature


def _absolute(path: Path) -> Path:
    """Returns the absolute path: Ray's workers have other working directories."""
    return path.absolute()


Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False), Unit("share")]
# vLLM refuses more than 2
Temperature = Annotated[
    float, Field(ge=0.0, le=2.0, allow_inf_nan=False), AfterValidator(_supported_by_vllm)
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
# an absolute path, or the name of a dataset on the hub as a relative one
DataPath = Annotated[Path, BeforeValidator(path_text), BeforeValidator(dataset_or_path)]

Tokens = Annotated[int, Unit("tokens")]
Examples = Annotated[int, Field(ge=1), Unit("examples")]
Problems = Annotated[int, Field(ge=1), Unit("problems")]
Samples = Annotated[int, Field(ge=1), Unit("samples")]
Steps = Annotated[int, Field(ge=1), Unit("steps")]
Epochs = Annotated[int, Field(ge=1), Unit("epochs")]
Probability = Annotated[float, Unit("probability")]
Nats = Annotated[float, Field(allow_inf_nan=False), Unit("nats")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Unit("seconds")]
GiB = Annotated[float, Field(gt=0, allow_inf_nan=False), Unit("GiB")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Frozen(BaseModel):
    """Immutable; unknown keys and values of other types are refused. Text that represents a number
    is read as a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, data: Any) -> Any:
        """Refuses booleans for other types, since `true` would silently become 1; drops empty
        sections."""
        if not isinstance(data, Mapping):
            return data
        for key, value in data.items():
            field = cls.model_fields.get(str(key))
            several = value if isinstance(value, list | tuple) else [value]
            takes = field is not None and bool in members(field.annotation)
            if field and not takes and any(isinstance(v, bool) for v in several):
                raise ValueError(
                    f"{key} does not accept true or false: got {value}; allowed: a number or text, "
                    f"see `forkdiv settings`; correct {key}, or quote it if it is meant as text"
                )
        empty = {key for key, value in data.items() if value is None and cls._is_section(str(key))}
        return {key: value for key, value in data.items() if key not in empty}

    @classmethod
    def _is_section(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        return field is not None and all(
            isinstance(kind, type) and issubclass(kind, BaseModel)
            for kind in members(field.annotation)
        )


def without_defaults(
    model: Frozen, values: dict[str, Any], names: Container[str]
) -> dict[str, Any]:
    """Returns the serialized `values` of a model without those of `names` that have their default:
    settings that came later leave the fingerprints of older results as they were."""
    fields = type(model).model_fields
    return {
        name: value
        for name, value in values.items()
        if name not in names or value != fields[name].default
    }


def members(annotation: Any) -> list[Any]:
    """Returns the types that a field may have: the members of a union, else the type itself."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in members(part)]
    return [annotation]
