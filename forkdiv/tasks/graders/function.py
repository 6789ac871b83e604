"""A grader that calls a user's function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from forkdiv.core.config.open_list import import_foreign
from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import file_digest
from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.graders.base import ANOTHER, CORRECT, WRONG, Canary


class Function:
    """A user's `f(answer, text) -> bool | Verdict`, given as `package.module:function`.

    The module may define `canaries`. Raises UserError if the function cannot be imported or called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        module, _, attribute = name.partition(":")
        allowed = "package.module:function with two parameters (reference answer, response)"
        try:
            self._module = imported = import_foreign(module, "grader", allowed)
            self._function: Callable[[str, str], object] = getattr(imported, attribute)
            inspect.signature(self._function).bind("", "")
            self.canaries: tuple[Canary, ...] = tuple(
                (answer, text, Outcome(outcome))
                for answer, text, outcome in getattr(imported, "canaries", ())
            )
        except (AttributeError, ValueError, TypeError) as error:
            remedy = f"correct task.grader or the function ({error})"
            raise refuse("the grader cannot be loaded", repr(name), allowed, remedy) from error

    def identity(self) -> dict[str, Any]:
        """The content of the files that define the function and that name it. Other modules that
        they import are not part of it."""
        source = inspect.getsourcefile(inspect.unwrap(self._function))
        files = dict.fromkeys(file for file in (self._module.__file__, source) if file)
        return {"source": [file_digest(file) for file in files]}

    def reference(self, answer: str) -> str:
        return answer

    def grade(self, answer: str, text: str) -> Verdict:
        """Raises TypeError if the function returns neither a bool nor a Verdict."""
        result = self._function(answer, text)
        if isinstance(result, Verdict):
            return result
        if not isinstance(result, bool):
            raise TypeError(f"{self.name} must return a bool or a Verdict, got {result!r}")
        return Verdict(CORRECT, answer) if result else Verdict(WRONG, None, ANOTHER)
