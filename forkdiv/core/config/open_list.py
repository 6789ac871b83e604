"""Names that a setting may have and that other rooms give meaning to: tasks, losses, graders."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import Generic, TypeVar

T = TypeVar("T")


class OpenList(Generic[T]):
    """What is registered under a name, loaded where it is first asked for.

    `home` is the module that registers what forkdiv ships; it is imported by name when the list
    is first read, since this room imports none above it. Installed packages add to the list by
    an entry point of the group `group`, whose value is what `load` of `register` would return.
    """

    def __init__(self, noun: str, home: str, group: str) -> None:
        self.noun, self._home, self._group = noun, home, group
        self._loaders: dict[str, Callable[[], T]] = {}
        self._complete = False

    def register(self, name: str, load: Callable[[], T]) -> None:
        """Make `name` known. `load` is called when it is used, not before."""
        self._loaders[name] = load

    def names(self) -> tuple[str, ...]:
        """All registered names, those of forkdiv first."""
        if not self._complete:
            self._complete = True  # before the import, which may read the list
            importlib.import_module(self._home)
            for plugin in metadata.entry_points(group=self._group):
                self._loaders.setdefault(plugin.name, plugin.load)
        return tuple(self._loaders)

    def get(self, name: str) -> T:
        """What is registered under the name. Raises KeyError for an unknown one."""
        self.names()
        return self._loaders[name]()

    def check(self, name: str) -> str:
        """The name itself. Raises ValueError where it is not registered."""
        if name not in self.names():
            raise ValueError(
                f"there is no such {self.noun}: got {name!r}; allowed: {', '.join(self.names())}; "
                "correct the name"
            )
        return name


def loaded(place: str) -> object:
    """What `package.module:name` names."""
    module, _, name = place.partition(":")
    found: object = getattr(importlib.import_module(module), name)
    return found
