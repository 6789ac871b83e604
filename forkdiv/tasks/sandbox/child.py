"""Code of a child process of the sandbox: drops all rights, then runs one program.

A child never exits by itself: it reports on a pipe how the program ended and waits to be killed,
so that its peak memory can still be read. A program that forges the report gains nothing: it could
have printed the same output and ended early.
"""

from __future__ import annotations

import atexit
import builtins
import importlib
import os
import pkgutil
import random
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from forkdiv.tasks.sandbox import confinement

# Modules that a program may import. They are loaded beforehand, since it cannot open files.
OFFERED = tuple(
    """
    __future__ abc array ast atexit base64 bisect calendar cmath collections collections.abc
    contextlib contextvars copy csv dataclasses datetime decimal difflib enum errno fractions
    functools gc graphlib hashlib heapq inspect io itertools json keyword locale math numbers
    operator os os.path pprint queue random re secrets statistics string struct sys textwrap
    threading time timeit traceback types typing unicodedata warnings weakref zlib
    """.split()  # noqa: SIM905 - a list would take a screen
)
# Modules that those import late. Names that this version of Python lacks are skipped.
LATE = tuple(
    """
    _strptime _pylong encodings.ascii encodings.latin_1 encodings.cp1252 encodings.utf_16
    encodings.utf_32 encodings.utf_8_sig encodings.hex_codec encodings.rot_13
    """.split()  # noqa: SIM905
)
# Modules of the sandbox itself, which programs must not see.
HIDDEN = ("ctypes", "_ctypes", "forkdiv", "pkgutil", "platform", "resource", "select")

READY, DONE, RAISED, MEMORY, DENIED, FAULT = b"R", b"d", b"r", b"m", b"x", b"f"
LONGEST_REASON = 1000  # bytes; below PIPE_BUF, so that a report is written atomically
REPORT = 3  # descriptor of the pipe for reports; 0 and 2 are /dev/null, 1 is the program's output
DESCRIPTORS = 64  # more than the fork server ever has
OWN_FRAMES = 8  # stack frames below the program's, added to its recursion limit


@dataclass(frozen=True, slots=True)
class Bounds:
    """`forkdiv.tasks.sandbox.run.Limits` in seconds and bytes."""

    cpu_s: float
    wall_s: float
    memory: int
    output: int


class ImportGuard:
    """The only remaining module finder; it loads nothing.

    An import of a module that this Python has but the sandbox does not offer is denied, since the
    program could have been correct. Any other missing module raises ImportError as usual.
    """

    def __init__(self, token: bytes) -> None:
        self._token = token
        packages = {n: m.__path__ for n, m in sys.modules.items() if hasattr(m, "__path__")}
        self._real = {
            *sys.builtin_module_names,
            *(module.name for module in pkgutil.iter_modules(sys.path)),
            *(f"{n}.{m.name}" for n, path in packages.items() for m in pkgutil.iter_modules(path)),
        }

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self._real:
            report(self._token, DENIED, f"import of {name}, which the sandbox does not offer")


@dataclass(frozen=True, slots=True)
class Setup:
    """What the fork server passes to each child."""

    bounds: Bounds
    ruleset: int  # descriptor of the Landlock rules
    null: int  # descriptor of /dev/null
    import_guard: ImportGuard
    server: int  # process id of the fork server
    token: bytes  # prefix of a genuine report, which a program cannot write by accident


def load_modules(token: bytes) -> ImportGuard:
    """Loads all modules that programs may import and hides the sandbox's own, in the server."""
    for name in (*OFFERED, *LATE):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            if name in OFFERED:
                raise
    for name in [name for name in sys.modules if name.partition(".")[0] in HIDDEN]:
        del sys.modules[name]
    time.tzset()  # it reads a file at its first call
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # added by `site`, which is not loaded
    import_guard = ImportGuard(token)
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.path.clear()
    return import_guard


def enter(code: str, setup: Setup, output: int, report_pipe: int) -> NoReturn:
    """Entry point of a forked child; it never returns. All limits are set before the code runs.

    The descriptors `output` and `report_pipe` must be greater than 3.
    """
    try:
        for target, source in enumerate((setup.null, output, setup.null, report_pipe)):
            os.dup2(source, target)
        confine(setup)
        os.write(REPORT, READY)
        report(setup.token, *attempt(code))
    except BaseException as error:  # noqa: BLE001 - every exception is reported
        os.write(REPORT, FAULT + f"{type(error).__name__}: {error}".encode()[:LONGEST_REASON])
    finally:
        os._exit(1)


def confine(setup: Setup) -> None:
    """Sets all limits permanently and starts the timers."""
    bounds = setup.bounds
    confinement.die_with_parent(setup.server)
    confinement.limit_resources(bounds.memory, bounds.cpu_s)
    confinement.close_files(setup.ruleset)
    os.closerange(REPORT + 1, DESCRIPTORS)
    sys.meta_path[:] = [setup.import_guard]
    random.seed(0)  # the answer of a program must not vary between runs
    confinement.limit_time(bounds.cpu_s, bounds.wall_s)
    confinement.filter_calls(bounds.memory)


def report(
    token: bytes,
    what: bytes,
    why: str,
    # bound at definition: a program may replace attributes of these modules
    write: Callable[[int, bytes], int] = os.write,
    sleep: Callable[[float], None] = time.sleep,
) -> NoReturn:
    """Reports to the fork server how the program ended, and waits to be killed."""
    write(REPORT, token + what + why.encode(errors="replace")[:LONGEST_REASON])
    while True:
        sleep(3600)


def attempt(code: str) -> tuple[bytes, str]:
    """Runs a program and returns how it ended, with a reason."""
    main, stdout = types.ModuleType("__main__"), sys.stdout
    sys.modules["__main__"] = main
    sys.argv[:] = ["<solution>"]
    sys.setrecursionlimit(sys.getrecursionlimit() + OWN_FRAMES)
    try:
        try:
            exec(compile(code, "<solution>", "exec", dont_inherit=True), main.__dict__)
        finally:
            atexit._run_exitfuncs()
            for stream in (sys.stdout, stdout):  # the program may have replaced sys.stdout
                if not getattr(stream, "closed", True):
                    stream.flush()
    except MemoryError as error:
        return MEMORY, describe(error)
    except SystemExit as left:
        return (RAISED, describe(left)) if left.code else (DONE, "")
    except BaseException as error:  # noqa: BLE001 - any exception is the program's answer
        return RAISED, describe(error)
    return DONE, ""


def describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - str() of an exception may be the program's code
        return type(error).__name__
