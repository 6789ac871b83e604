"""Inside a child of the sandbox: give up everything, then run one program.

A child never ends by itself: it says on a pipe how the program ended and waits to be killed, so
that its peak memory can still be read. What it says decides nothing that printing could not:
a program that forges it has only ended early.
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

# What a program may import. No file can be opened once it runs, so all of it is loaded before.
OFFERED = tuple(
    """
    __future__ abc array ast atexit base64 bisect calendar cmath collections collections.abc
    contextlib contextvars copy csv dataclasses datetime decimal difflib enum errno fractions
    functools gc graphlib hashlib heapq inspect io itertools json keyword locale math numbers
    operator os os.path pprint queue random re secrets statistics string struct sys textwrap
    threading time timeit traceback types typing unicodedata warnings weakref zlib
    """.split()  # noqa: SIM905 - a list would take a screen
)
# What those load late. A name that only other versions of Python have is passed over.
LATE = tuple(
    """
    _strptime _pylong encodings.ascii encodings.latin_1 encodings.cp1252 encodings.utf_16
    encodings.utf_32 encodings.utf_8_sig encodings.hex_codec encodings.rot_13
    """.split()  # noqa: SIM905
)
OURS = ("ctypes", "_ctypes", "forkdiv", "pkgutil", "platform", "resource", "select")

READY, DONE, RAISED, MEMORY, DENIED, FAULT = b"R", b"d", b"r", b"m", b"x", b"f"
LONGEST_REASON = 1000  # bytes; well below PIPE_BUF, so that a saying arrives as a whole
SAID = 3  # the pipe to the watcher; 0 and 2 are /dev/null, 1 is what the program prints
DESCRIPTORS = 64  # more than the zygote ever has
OUR_FRAMES = 8  # below a program's own; it may recurse as deep as any program


@dataclass(frozen=True, slots=True)
class Bounds:
    """`forkdiv.tasks.sandbox.run.Limits` in seconds and bytes."""

    cpu_s: float
    wall_s: float
    memory: int
    output: int


class Shelf:
    """The one finder of modules left: nothing more is loaded.

    What Python would find but the sandbox does not offer is denied, since the program might
    have been right. What is not there at all is missing, as on any machine.
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
            say(self._token, DENIED, f"import of {name}, which is not offered")


@dataclass(frozen=True, slots=True)
class Setup:
    """What the zygote hands to each of its children."""

    bounds: Bounds
    ruleset: int  # descriptor of the Landlock rules
    null: int  # descriptor of /dev/null
    shelf: Shelf
    zygote: int  # its process id
    token: bytes  # opens what a child says last, so that a program does not say it by chance


def load_modules(token: bytes) -> Shelf:
    """Load all there will be to import and hide our own modules, in the zygote."""
    for name in (*OFFERED, *LATE):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            if name in OFFERED:
                raise
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    time.tzset()  # it reads a file, the first time
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # which site would have added
    shelf = Shelf(token)
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.path.clear()
    return shelf


def enter(code: str, setup: Setup, to_print: int, to_say: int) -> NoReturn:
    """What a freshly forked child does; it never comes back. Every wall stands before the code.

    The given descriptors must lie above 3.
    """
    try:
        for wanted, given in enumerate((setup.null, to_print, setup.null, to_say)):
            os.dup2(given, wanted)
        confine(setup)
        os.write(SAID, READY)
        say(setup.token, *attempt(code))
    except BaseException as error:  # noqa: BLE001 - told to the watcher, whatever it is
        os.write(SAID, FAULT + f"{type(error).__name__}: {error}".encode()[:LONGEST_REASON])
    finally:
        os._exit(1)


def confine(setup: Setup) -> None:
    """Every wall, for good. The timers run from here on."""
    bounds = setup.bounds
    confinement.die_with_parent(setup.zygote)
    confinement.limit_resources(bounds.memory, bounds.cpu_s)
    confinement.close_files(setup.ruleset)
    os.closerange(SAID + 1, DESCRIPTORS)
    sys.meta_path[:] = [setup.shelf]
    random.seed(0)  # an answer must not change from run to run
    confinement.limit_time(bounds.cpu_s, bounds.wall_s)
    confinement.filter_calls(bounds.memory)


def say(
    token: bytes,
    what: bytes,
    why: str,
    # bound now: a program may replace what the modules hold
    write: Callable[[int, bytes], int] = os.write,
    sleep: Callable[[float], None] = time.sleep,
) -> NoReturn:
    """Tell the watcher how the program ended and wait to be killed."""
    write(SAID, token + what + why.encode(errors="replace")[:LONGEST_REASON])
    while True:
        sleep(3600)


def attempt(code: str) -> tuple[bytes, str]:
    """Run a program to its end: what to say about it, and why."""
    main, stdout = types.ModuleType("__main__"), sys.stdout
    sys.modules["__main__"] = main
    sys.argv[:] = ["<solution>"]
    sys.setrecursionlimit(sys.getrecursionlimit() + OUR_FRAMES)
    try:
        try:
            exec(compile(code, "<solution>", "exec", dont_inherit=True), main.__dict__)
        finally:
            atexit._run_exitfuncs()
            for stream in (sys.stdout, stdout):  # it may have put another in the place of ours
                if not getattr(stream, "closed", True):
                    stream.flush()
    except MemoryError as error:
        return MEMORY, describe(error)
    except SystemExit as left:
        return (RAISED, describe(left)) if left.code else (DONE, "")
    except BaseException as error:  # noqa: BLE001 - whatever a model's program raises is its answer
        return RAISED, describe(error)
    return DONE, ""


def describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - its text is the program's own code
        return type(error).__name__
