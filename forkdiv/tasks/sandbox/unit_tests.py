"""The program that runs unit tests on a response in the sandbox, and how its end is read.

The sandbox runs one text, so the source of `_run` and its arguments are written into one. In the
sandbox, code of the response and the tests share a process, as in the published harnesses. So that
code cannot pass by something else than its results:

- a run passes only if it prints a secret of its own after the last test: who exits early fails
- built-in functions and modules are as before the response when the tests begin, and what the
  response names like a built-in function is not seen by the tests, but for the tested functions
- objects whose class the response itself gave operators (`__eq__` that is always true) are refused
  as results

Code that is written to search the process for the secret could still find it.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import CodeType
from typing import Any

from forkdiv.tasks.sandbox.run import Ended, RunResult, Sandbox


class ProgramEnd(StrEnum):
    """How the tests of a program ended. The texts are the reasons of wrong answers in results."""

    PASSED = "its tests pass"
    FAILED = "its tests fail"
    RAISED = "it raises an exception"
    NO_PROGRAM = "no code that compiles"
    NO_MODULE = "it imports a module that the sandbox does not have"
    EXITED = "it ends before its tests do"
    FORGED = "its result is an object that is made to pass tests"
    TIME = "it exceeds the limit of time"
    MEMORY = "it exceeds the limit of memory"
    OUTPUT = "it exceeds the limit of output"
    DENIED = "it attempts what the sandbox forbids"
    CRASHED = "it crashes Python"


@dataclass(frozen=True, slots=True)
class UnitTests:
    """`tests` are Python statements that raise an exception for a wrong program. `names` are the
    functions that they test."""

    tests: str
    names: Sequence[str] = ()


def run_tests(sandbox: Sandbox, programs: Sequence[str], unit: UnitTests) -> ProgramEnd:
    """Runs the tests on the first of the programs that compiles. Raises SandboxLost."""
    secret = secrets.token_hex(16)
    arguments = (list(programs), unit.tests, list(unit.names), secret)
    result = sandbox.run(f"{_source()}\n_run{arguments!r}\n")
    return _ended(result, secret)


_BY_OUTCOME = {
    Ended.TIMEOUT: ProgramEnd.TIME,
    Ended.MEMORY: ProgramEnd.MEMORY,
    Ended.OUTPUT: ProgramEnd.OUTPUT,
    Ended.CRASHED: ProgramEnd.CRASHED,
    Ended.DENIED: ProgramEnd.DENIED,
}
_BY_EXCEPTION = {
    "AssertionError": ProgramEnd.FAILED,
    "NoProgram": ProgramEnd.NO_PROGRAM,
    "ForgedResult": ProgramEnd.FORGED,
    "ModuleNotFoundError": ProgramEnd.NO_MODULE,
    "SystemExit": ProgramEnd.EXITED,
    "MemoryError": ProgramEnd.MEMORY,
}


def _ended(result: RunResult, secret: str) -> ProgramEnd:
    if result.outcome is Ended.OK:
        return ProgramEnd.PASSED if secret in result.printed else ProgramEnd.EXITED
    if result.outcome is Ended.RAISED:
        return _BY_EXCEPTION.get(result.error.partition(":")[0], ProgramEnd.RAISED)
    if result.outcome is Ended.DENIED and result.error.startswith("import of "):
        return ProgramEnd.NO_MODULE
    return _BY_OUTCOME[result.outcome]


# --- what runs in the sandbox, as text: it must not use any other name of this module -------------


class NoProgram(Exception):
    """None of the programs compiles."""


class ForgedResult(Exception):
    """A result is an object that is made to pass tests."""


def _run(programs: list[str], tests: str, tested: list[str], secret: str) -> None:
    """Runs the tests on the first program that compiles, and prints the secret if they pass."""
    import builtins
    import os
    import sys
    import types

    # bound before the program runs, which may replace what the names mean
    write, kept, restore, checked = os.write, dict(vars(builtins)), _restore, _checked
    before = {name: (module, dict(vars(module))) for name, module in sys.modules.items()}
    check = _result_check()
    program = _compiled(programs)
    solution = types.ModuleType("solution")
    sys.modules["solution"] = solution
    exec(program, vars(solution))
    sys.settrace(None)
    sys.setprofile(None)
    restore(vars(builtins), kept)
    for module, names in before.values():
        restore(vars(module), names)
    seen = {}
    for name, value in vars(solution).items():
        if name in tested or (callable(value) and not isinstance(value, type)):
            value = checked(value, check)
        if name in tested or name not in kept:
            seen[name] = value
    seen["__builtins__"] = kept
    exec(compile(tests, "<tests>", "exec", dont_inherit=True), seen)
    write(1, f"\n{secret}\n".encode())


def _compiled(programs: list[str]) -> CodeType:
    for source in programs:
        try:
            return compile(source, "<response>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            continue
    raise NoProgram


def _restore(now: dict[str, Any], before: dict[str, Any]) -> None:
    for name, value in before.items():
        if now.get(name) is not value:
            now[name] = value


def _checked(function: Any, check: Callable[[Any], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        check(result)
        return result

    return call


def _result_check() -> Callable[[Any], None]:
    """Returns a function that raises ForgedResult for an object whose class came later than this
    call and has operators of its own. Call it before the program runs."""
    operators = (
        *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__len__"),
        *("__contains__", "__getitem__", "__iter__", "__class__", "__abs__", "__sub__"),
        *("__rsub__", "__add__", "__radd__", "__float__", "__int__", "__index__", "__round__"),
    )
    # not through the class, whose metaclass may answer otherwise
    mro_of, names_in = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
    subclasses, kind_of = type.__subclasses__, type
    plain, new = {object}, [object]
    while new:
        found = [kind for parent in new for kind in subclasses(parent) if kind not in plain]
        plain.update(found)
        new = [kind for kind in dict.fromkeys(found) if kind is not type]

    def check(value: Any, depth: int = 0) -> None:
        kind = kind_of(value)
        if kind in (list, tuple, set, frozenset, dict) and depth < 20:
            for item in (*value, *value.values()) if kind is dict else value:
                check(item, depth + 1)
        elif kind not in plain:
            own = [names_in(parent) for parent in mro_of(kind) if parent not in plain]
            if kind_of(kind) not in plain or any(name in has for has in own for name in operators):
                raise ForgedResult

    return check


IN_SANDBOX = (NoProgram, ForgedResult, _compiled, _restore, _checked, _result_check, _run)


@cache
def _source() -> str:
    # the names in annotations are not there
    parts = [inspect.getsource(part) for part in IN_SANDBOX]
    return "\n\n".join(["from __future__ import annotations", *parts])
