"""Which settings a study may vary.

Every field of the config is an axis, by its path: `sft.learning_rate`. The fields of SweepConfig
are short names of ten axes (`ALIASES`), which mean the same as their paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from forkdiv.core.config.base import AxisWords, members
from forkdiv.core.config.open_list import OpenList
from forkdiv.core.config.sweep import ALIASES

ALIAS_OF_PATH = {path: alias for alias, path in ALIASES.items()}

# What no study can vary: the reason. A name stands for the settings below it as well.
NEVER = {
    "name": "names the folder of the results",
    "place": "says where the work runs and changes no result",
    "plan": "is read by `forkdiv plan` only",
    "power": "is read by `forkdiv power` only",
    "audit": "is read by `forkdiv audit` only",
    "watch": "is read by `forkdiv watch` only",
    "data": "is not read by a study",
    "checkpoint": "is not read by a study, which trains its checkpoints",
    "checkpoint_pattern": "is not read by a study, which trains its checkpoints",
    "adapter_base": "is not read by a study, which trains its checkpoints",
    "rl": "is read by `forkdiv rl` only",
    "sweep": "describes the search itself",
    "decoders": "holds the decoders that sweep.decoder varies by their names",
}
# What one study cannot vary, but several studies can.
ONE_FOR_EACH = {
    "base": "is the one base with which the models of a study are compared",
    "pretrain": "describes the one base with which the models of a study are compared",
    "decoder.dtype": "is the number format of the one engine that samples all models of a study",
    "eval.confidence": "is the level of all limits in a report",
    "task.kind": "chooses what all models of a study learn",
    **{
        f"prompt.{name}": "says how the one engine of a study writes every prompt"
        for name in ("template", "text", "system", "chat_template", "template_args", "date")
    },
}
# The sections whose settings decide what is trained, and no more than that.
OF_TUNED = ("dataset", "synthesis", "learnability", "sft", "interpolation")
# The sections that training reads.
OF_TRAINING = ("task", "dataset", "synthesis", "learnability", "sft")
SEED, TRAIN_SEED, DECODER, TEMPERATURE = "seed", "sft.seed", "decoder", "decoder.temperature"


@dataclass(frozen=True)
class AxisField:
    """A setting that a study may vary, by its path."""

    path: str
    field: FieldInfo

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Validates one value."""
        annotation: Any = Annotated[self.field.annotation, self.field]
        return TypeAdapter(annotation)

    @property
    def words(self) -> AxisWords:
        """How results name it."""
        found = (item for item in self.field.metadata if isinstance(item, AxisWords))
        return next(found, AxisWords())

    @property
    def is_integer(self) -> bool:
        return self.is_number and float not in members(self.field.annotation)

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers, or null."""
        return set(members(self.field.annotation)) <= {int, float, type(None)}

    @property
    def known_texts(self) -> tuple[str, ...]:
        """The texts that are allowed, in their order; empty if there is no such list."""
        for kind in members(self.field.annotation):
            if get_origin(kind) is Literal:
                return tuple(kind.__args__)
        names = next((item for item in self.field.metadata if isinstance(item, OpenList)), None)
        return names.names() if names else ()


def axis_fields(root: type[BaseModel], task: type[BaseModel] | None) -> dict[str, AxisField]:
    """Returns every setting of the config by its path, in the order of the config. `task` is the
    class of the task's settings; None leaves them out."""
    return dict(_walk("", root, task))


def _walk(
    prefix: str, model: type[BaseModel], task: type[BaseModel] | None
) -> Iterator[tuple[str, AxisField]]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        kinds = members(field.annotation)
        if path == "task":
            if task is not None:
                yield from _walk("task.", task, None)
        elif len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel):
            yield from _walk(f"{path}.", kinds[0], task)
        else:
            yield path, AxisField(path, field)


def reason_against(path: str) -> str:
    """Returns why no study can vary a setting; empty if it can."""
    parts = path.split(".")
    names = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    reasons = NEVER | ONE_FOR_EACH
    return next((reasons[name] for name in names if name in reasons), "")


def is_of_tuned(axis: AxisField) -> bool:
    """Whether the setting changes the tuned models only. Otherwise it changes how models are
    measured, and the base is measured for each of its values as well."""
    return axis.path.split(".")[0] in OF_TUNED or axis.words.of_data


def is_read_by_training(path: str) -> bool:
    """Whether models that differ in this setting are trained apart."""
    return path.split(".")[0] in OF_TRAINING


def shown_value(value: object) -> int | float | str | None:
    """Returns a value as results name it: numbers, texts and null as they are, others as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and all(isinstance(item, str | int | float) for item in value):
        return f"[{', '.join(map(str, value))}]"
    return json.dumps(value, default=str, sort_keys=True)
