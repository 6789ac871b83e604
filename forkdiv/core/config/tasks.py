"""The settings of a task: what all tasks share, and the open list of the kinds that are registered.

A task's own settings stand beside the task, in its file; `forkdiv.tasks.registry` registers them
here, since this room imports no task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, PlainValidator, SerializeAsAny, TypeAdapter
from pydantic_core import PydanticCustomError

from forkdiv.core.config.base import Frozen, Seed

DEFAULT_KIND = "graph_branching"
UNKNOWN_KIND = "unknown_task"  # the type of the validation error
_LOADERS: dict[str, Callable[[], type[TaskConfig]]] = {}


class TaskConfig(Frozen):
    """What every task's settings have. A task adds its own, and narrows `kind` to its name."""

    kind: str
    seed: Seed = Field(0, description="Seed of the held-out problems, and of nothing else.")


def register(kind: str, load: Callable[[], type[TaskConfig]]) -> None:
    """Make `task.kind=KIND` known. `load` returns the class of its settings; it is called where
    such settings are read, since some tasks import libraries that load slowly."""
    _LOADERS[kind] = load


def kinds() -> tuple[str, ...]:
    """The registered kinds. Raises RuntimeError where nothing has been registered."""
    if not _LOADERS:
        raise RuntimeError("no task is registered; import forkdiv.tasks.registry first")
    return tuple(_LOADERS)


def config_class(kind: str) -> type[TaskConfig]:
    """The class of a kind's settings. Raises KeyError for a kind that is not registered."""
    kinds()
    return _LOADERS[kind]()


def _read(value: Any) -> TaskConfig:
    """The settings of a task, checked by the class of its kind."""
    if isinstance(value, TaskConfig):
        return value
    kind = value.get("kind", DEFAULT_KIND) if isinstance(value, Mapping) else None
    if kind not in kinds():
        raise PydanticCustomError(UNKNOWN_KIND, "one of {allowed}", {"allowed": ", ".join(kinds())})
    return config_class(kind).model_validate(value)


def default_task() -> TaskConfig:
    """The task of a study that names none."""
    return _read({})


AnyTask = Annotated[SerializeAsAny[TaskConfig], PlainValidator(_read)]

task_adapter: TypeAdapter[TaskConfig] = TypeAdapter(AnyTask)  # reads settings from elsewhere
