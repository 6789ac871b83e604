"""Grades Python code by unit tests, which run in the sandbox.

The reference is JSON: `tests` (statements that raise an exception for a wrong program), `prompt`
(the code that a response continues, may be empty) and `names` (the functions that are tested, the
main one first). A program that fails, exits, loops, exceeds a limit, or attempts what the sandbox
forbids is a wrong answer; a response without code that compiles cannot be read.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from forkdiv.core.records import Verdict
from forkdiv.tasks.graders.base import CORRECT, UNPARSABLE, WRONG, Canary, own_identity
from forkdiv.tasks.graders.code_text import programs
from forkdiv.tasks.sandbox.run import Limits, Sandbox, unavailable
from forkdiv.tasks.sandbox.unit_tests import ProgramEnd, UnitTests, run_tests

# CPU time is what a slow program uses; a loaded machine only makes wall-clock time longer. Both are
# below the time that a grading process may take for a response.
LIMITS = Limits(cpu_s=6.0, wall_s=20.0, memory_mib=1024)
FIELDS = {"tests": str, "prompt": str, "names": list}


def reference_text(tests: str, prompt: str, names: list[str]) -> str:
    """Returns the reference of a problem as `UnitTestGrader` reads it."""
    return json.dumps({"tests": tests, "prompt": prompt, "names": names}, ensure_ascii=False)


_ADDS = reference_text("assert add(2, 3) == 5", "def add(a, b):\n", ["add"])


class UnitTestGrader:
    """See the module's docstring. The sandbox is started with the first program and ends with the
    grading process."""

    name = "unit_tests"
    version = 1
    votes = False  # programs have no answers to vote for
    canaries: tuple[Canary, ...] = (
        (_ADDS, "    return a + b\n", CORRECT),
        (_ADDS, "Like this:\n```python\ndef add(a, b):\n    return b + a\n```\n", CORRECT),
        (_ADDS, "    return a - b\n", WRONG),
        (_ADDS, "    import sys; sys.exit(0)\n", WRONG),
        (_ADDS, "I cannot do that.", UNPARSABLE),
    )

    def identity(self) -> dict[str, Any]:
        return own_identity(type(self), self.version)

    def reference(self, answer: str) -> str:
        self._read(answer)
        return answer

    def grade(self, answer: str, text: str) -> Verdict:
        """Raises SandboxLost if the sandbox itself fails."""
        reference = self._read(answer)
        names = reference["names"]
        candidates = programs(reference["prompt"], text, names[0] if names else None)
        unit = UnitTests(reference["tests"], names)
        ended = run_tests(self._sandbox, candidates, unit) if candidates else ProgramEnd.NO_PROGRAM
        if ended is ProgramEnd.PASSED:
            return Verdict(CORRECT)
        outcome = UNPARSABLE if ended is ProgramEnd.NO_PROGRAM else WRONG
        return Verdict(outcome, None, ended.value)

    def unavailable(self) -> str | None:
        """Returns why this machine cannot run the programs of responses, or None."""
        return unavailable()

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(LIMITS).__enter__()

    @staticmethod
    def _read(answer: str) -> dict[str, Any]:
        try:
            reference = json.loads(answer)
        except json.JSONDecodeError as error:
            raise ValueError(f"the reference is not the JSON of unit tests ({error})") from error
        if not isinstance(reference, dict) or any(
            not isinstance(reference.get(name), kind) for name, kind in FIELDS.items()
        ):
            raise ValueError("the reference must have tests, prompt and names")
        return reference
