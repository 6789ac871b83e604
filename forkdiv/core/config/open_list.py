"""Registries of names that a setting accepts and other rooms implement: tasks, losses, graders."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import Generic, TypeVar

T = TypeVar("T")


class OpenList(Generic[T]):
    """A registry of objects by name; each is loaded at its first use.

    `home` is the module that registers what forkdiv ships; it is imported by name when the list
    is first read, because this room must not import rooms above it. Installed packages add names
    by entry points of the group `group`; an entry point loads the registered object.
    """

    def __init__(self, noun: str, home: str, group: str) -> None:
        self.noun, self._home, self._group = noun, home, group
        self._loaders: dict[str, Callable[[], T]] = {}
        self._complete = False

    def register(self, name: str, load: Callable[[], T]) -> None:
        """Registers `name`. `load` is called when the name is used."""
        self._loaders[name] = load

    def names(self) -> tuple[str, ...]:
        """Returns all registered names, those that ship with forkdiv first."""
        if not self._complete:
            self._complete = True  # before the import, which may read the list
            importlib.import_module(self._home)
            for plugin in metadata.entry_points(group=self._group):
                self._loaders.setdefault(plugin.name, plugin.load)
        return tuple(self._loaders)

    def get(self, name: str) -> T:
        """Returns the object registered under the name. Raises KeyError for an unknown name."""
        self.names()
        return self._loaders[name]()

    def check(self, name: str) -> str:
        """Returns the name. Raises ValueError if it is not registered."""
        if name not in self.names():
            raise ValueError(
                f"unknown {self.noun}: got {name!r}; allowed: {', '.join(self.names())}; "
                "correct the name"
            )
        return name


def load_object(path: str) -> object:
    """Returns the object that `package.module:name` names."""
    module, _, name = path.partition(":")
    value: object = getattr(importlib.import_module(module), name)
    return value
