"""Registries of names that a setting accepts and other rooms implement: tasks, losses, graders."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from importlib import metadata
from types import ModuleType
from typing import Generic, TypeVar

from forkdiv.core.errors import refuse, shortened

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
                load = partial(_load_plugin, self.noun, plugin)
                self._loaders.setdefault(plugin.name, load)  # type: ignore[arg-type]
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


def import_foreign(module: str, what: str, allowed: str) -> ModuleType:
    """Imports a module that is not forkdiv's; `what` says in messages what it is for ("grader").

    Raises UserError for everything that the import raises, also SystemExit: a module that calls
    exit() would end forkdiv, with status 0 and without a result.
    """
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise refuse(
            f"the {what} cannot be loaded",
            f"the module {shortened(module)!r}, which {_failure(error)}",
            allowed,
            f"correct the module or the name of the {what}",
        ) from error


def _load_plugin(noun: str, plugin: metadata.EntryPoint) -> object:
    """Returns the object of an installed package's entry point."""
    what = f"{noun} {plugin.name!r} of an installed package"
    import_foreign(plugin.module, what, "a module that can be imported")
    return plugin.load()


def _failure(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"ends the program when it is imported (exit status {error.code})"
    text = shortened(" ".join(str(error).split()), 200)
    return f"fails when it is imported ({type(error).__name__}: {text})"


def load_object(path: str) -> object:
    """Returns the object that `package.module:name` names."""
    module, _, name = path.partition(":")
    value: object = getattr(importlib.import_module(module), name)
    return value
