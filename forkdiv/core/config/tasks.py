"""The settings that all tasks share, and the registry of task kinds.

The settings of a task are defined in its own file; `forkdiv.tasks.registry` registers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, PlainValidator, SerializeAsAny, TypeAdapter
from pydantic_core import PydanticCustomError

from forkdiv.core.config.base import Frozen, Seed
from forkdiv.core.config.open_list import OpenList

DEFAULT_KIND = "graph_branching"
UNKNOWN_KIND = "unknown_task"  # the type of the validation error


class TaskConfig(Frozen):
    """The settings of every task. A task adds its own and restricts `kind` to its name."""

    kind: str
    seed: Seed = Field(0, description="Seed of the held-out problems, and of nothing else.")


# kind -> task class, whose attribute `config_class` is the class of its settings
KINDS: OpenList[Any] = OpenList("task", "forkdiv.tasks.registry", "forkdiv.tasks")


def config_class(kind: str) -> type[TaskConfig]:
    """Returns the class of a kind's settings. Raises KeyError for a kind that is not registered."""
    task_config: type[TaskConfig] = KINDS.get(kind).config_class
    return task_config


def kind_of(settings: Mapping[str, Any]) -> str:
    """Returns the kind of a task from its settings: `kind` if it is set, else the default kind, or
    the only other kind that has all these settings, such as `file` for `columns` or `grader`. Kinds
    that derive from that one do not count."""
    if "kind" in settings:
        kind: str = settings["kind"]
        return kind
    if settings.keys() <= config_class(DEFAULT_KIND).model_fields.keys():
        return DEFAULT_KIND
    fitting = {
        kind: config
        for kind in KINDS.names()
        if settings.keys() <= (config := config_class(kind)).model_fields.keys()
    }
    roots = [
        kind
        for kind, config in fitting.items()
        if all(issubclass(other, config) for other in fitting.values())
    ]
    return roots[0] if len(roots) == 1 else DEFAULT_KIND


def _read(value: Any) -> TaskConfig:
    """Validates the settings of a task with the class of its kind."""
    if isinstance(value, TaskConfig):
        return value
    kind = kind_of(value) if isinstance(value, Mapping) else None
    if kind not in KINDS.names():
        allowed = ", ".join(KINDS.names())
        raise PydanticCustomError(UNKNOWN_KIND, "one of {allowed}", {"allowed": allowed})
    return config_class(kind).model_validate(value)


def default_task() -> TaskConfig:
    """Returns the task of a study that does not set one."""
    return _read({})


AnyTask = Annotated[SerializeAsAny[TaskConfig], PlainValidator(_read)]

task_adapter: TypeAdapter[TaskConfig] = TypeAdapter(AnyTask)  # reads settings from elsewhere
