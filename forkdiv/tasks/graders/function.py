"""A grader that is a function of the user's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

from forkdiv.core.errors import refuse
from forkdiv.core.records import Outcome, Verdict
from forkdiv.tasks.graders.base import ANOTHER, CORRECT, WRONG, Canary


class Function:
    """A user's `f(answer, text) -> bool | Verdict`, named by `package.module:function`.

    The module may offer `canaries` of its own. Raises UserError where the name leads to none.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        module, _, attribute = name.partition(":")
        allowed = "package.module:function with two parameters (reference answer, response)"
        try:
            found = importlib.import_module(module)
            self._function: Callable[[str, str], object] = getattr(found, attribute)
            inspect.signature(self._function).bind("", "")
            self.canaries: tuple[Canary, ...] = tuple(
                (answer, text, Outcome(outcome))
                for answer, text, outcome in getattr(found, "canaries", ())
            )
        except (ImportError, SyntaxError, AttributeError, ValueError, TypeError) as error:
            remedy = f"correct the grader's name or the function ({error})"
            raise refuse("this grader cannot be used", repr(name), allowed, remedy) from error

    def reference(self, answer: str) -> str:
        return answer

    def grade(self, answer: str, text: str) -> Verdict:
        """Raises TypeError for what is neither a bool nor a Verdict."""
        said = self._function(answer, text)
        if isinstance(said, Verdict):
            return said
        if not isinstance(said, bool):
            raise TypeError(f"{self.name} gave {said!r}, which is neither a bool nor a Verdict")
        return Verdict(CORRECT, answer) if said else Verdict(WRONG, None, ANOTHER)
