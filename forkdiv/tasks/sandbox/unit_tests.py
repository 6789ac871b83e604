"""The program that runs unit tests on a response in the sandbox, and how its end is read.

The sandbox runs one text, so this module writes the program `_run` with its request into one. In
the sandbox, code of the response and the tests share a process, as in the published harnesses. So
that code cannot pass by something else than its results:

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
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
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
    request = {"programs": list(programs), "tests": unit.tests, "names": list(unit.names)}
    result = sandbox.run(f"{_SOURCE}\n_run({request!r}, {secret!r})\n")
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


def _run(request: dict[str, Any], secret: str) -> None:
    """Runs in the sandbox, as text: it must not use any other name of this module."""
    import builtins
    import os
    import sys
    import types

    write, kept = os.write, dict(vars(builtins))
    modules = {name: (module, dict(vars(module))) for name, module in sys.modules.items()}
    operators = (
        *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__len__"),
        *("__contains__", "__getitem__", "__iter__", "__class__", "__abs__", "__sub__"),
        *("__rsub__", "__add__", "__radd__", "__float__", "__int__", "__index__", "__round__"),
    )
    mro_of, names_in = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
    subclasses, kind_of, is_callable = type.__subclasses__, type, callable
    plain = {object}
    new = [object]
    while new:
        found = [kind for parent in new for kind in subclasses(parent) if kind not in plain]
        plain.update(found)
        new = [kind for kind in dict.fromkeys(found) if kind is not type]

    class NoProgram(Exception):
        pass

    class ForgedResult(Exception):
        pass

    def check(value: Any, depth: int = 0) -> None:
        kind = kind_of(value)
        if kind in (list, tuple, set, frozenset) and depth < 20:
            for item in value:
                check(item, depth + 1)
        elif kind is dict and depth < 20:
            for key, item in value.items():
                check(key, depth + 1)
                check(item, depth + 1)
        elif kind not in plain:
            own = [names_in(parent) for parent in mro_of(kind) if parent not in plain]
            if kind_of(kind) not in plain or any(name in has for has in own for name in operators):
                raise ForgedResult

    def checked(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            check(result)
            return result

        return call

    program = None
    for source in request["programs"]:
        try:
            program = compile(source, "<response>", "exec", dont_inherit=True)
            break
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            continue
    if program is None:
        raise NoProgram
    solution = types.ModuleType("solution")
    sys.modules["solution"] = solution
    exec(program, vars(solution))

    sys.settrace(None)
    sys.setprofile(None)
    vars(builtins).update(kept)
    for module, before in modules.values():
        now = vars(module)
        for name, value in before.items():
            if now.get(name) is not value:
                now[name] = value
    names = {
        name: checked(value)
        if name in request["names"] or (is_callable(value) and not isinstance(value, type))
        else value
        for name, value in vars(solution).items()
        if name not in kept or name in request["names"]
    }
    names["__builtins__"] = kept
    exec(compile(request["tests"], "<tests>", "exec", dont_inherit=True), names)
    write(1, f"\n{secret}\n".encode())


# without the annotations that need an import
_SOURCE = inspect.getsource(_run).replace(": dict[str, Any]", "").replace("Any", "object")
