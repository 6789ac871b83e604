"""Programs behind limits: plain ones are left alone, hostile ones end as an error, none is lost."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.errors import UserError
from forkdiv.tasks.sandbox.run import (
    MODULES,
    Ended,
    Limits,
    RunResult,
    Sandbox,
    SandboxLost,
    unavailable,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the sandbox refuses elsewhere: see test_confinement"
)

ROOT = Path(__file__).parents[2]
LIMITS = Limits(cpu_s=2.0, wall_s=20.0, memory_mib=64, output_kib=16)
OK, RAISED, TIMEOUT, MEMORY = Ended.OK, Ended.RAISED, Ended.TIMEOUT, Ended.MEMORY
OUTPUT, DENIED, CRASHED = Ended.OUTPUT, Ended.DENIED, Ended.CRASHED
GOOD = RunResult(OK, "42\n", "")

# Past what is imported, into our own modules and from there to any function of the C library.
DIG = """
import sys
frame = sys._getframe()
while "confinement" not in frame.f_globals: frame = frame.f_back
libc = frame.f_globals["confinement"].ctypes.CDLL(None)
"""
ENDLESS = "while True: pass"

HOSTILE = {
    "fork bomb": ("import os\nwhile True: os.fork()", DENIED),
    "threads": ("import threading\nthreading.Thread(target=print).start()", DENIED),
    "endless loop": (ENDLESS, TIMEOUT),
    "loop in C": ("sum(iter(int, 1))", TIMEOUT),
    "10 GiB list": ("[0] * (10 * 2**30 // 8)", MEMORY),
    "growing list": ("held = []\nwhile True: held.append([0] * 10**6)", MEMORY),
    "growing text": ("text = 'a'\nwhile True: text += text", MEMORY),
    "untouched memory": ("held = []\nwhile True: held.append(bytes(2**20))", MEMORY),
    "huge power": ("7 ** 10**9", TIMEOUT),
    "huge shift": ("1 << 10**12", MEMORY),
    "printing for ever": ("while True: print('x' * 100)", OUTPUT),
    "reading the users": ("open('/etc/passwd').read()", DENIED),
    "reading outside": ("open({outside!r}).read()", DENIED),
    "reading outside in C": (DIG + "libc.open({outside!r}.encode(), 0o2000000)", DENIED),
    "writing outside": ("open({outside!r}, 'w').write('gone')", DENIED),
    "making a file": ("open({outside!r} + '.new', 'x')", DENIED),
    "deleting": ("import os\nos.remove({outside!r})", DENIED),
    "moving": ("import os\nos.rename({outside!r}, {outside!r} + '.moved')", DENIED),
    "linking": ("import os\nos.symlink('/etc/passwd', {outside!r} + '.link')", DENIED),
    "truncating": ("import os\nos.truncate({outside!r}, 0)", DENIED),
    "changing rights": ("import os\nos.chmod({outside!r}, 0o777)", DENIED),
    "listing": ("import os\nos.listdir('/')", DENIED),
    "changing folder": ("import os\nos.chdir('/')", DENIED),
    "own memory": ("open('/proc/self/mem', 'rb')", DENIED),
    "secrets of others": ("open('/proc/1/environ', 'rb')", DENIED),
    "socket": ("import socket\nsocket.socket()", DENIED),
    "loopback": ("import socket\nsocket.create_connection(('127.0.0.1', 22))", DENIED),
    "socket in C": (DIG + "libc.socket(2, 1, 0)", DENIED),
    "signalling its parent": ("import os\nos.kill(os.getppid(), 9)", DENIED),
    "signalling the first": ("import os\nos.kill(1, 15)", DENIED),
    "signalling everybody": ("import os\nos.kill(-1, 9)", DENIED),
    "signalling in C": (DIG + "libc.kill(-1, 9)", DENIED),
    "ignoring the timer": ("import signal\nsignal.signal(14, signal.SIG_IGN)\n" + ENDLESS, DENIED),
    "blocking the timer": ("import signal\nsignal.pthread_sigmask(0, [14, 27])", DENIED),
    "stopping the timer": ("import signal\nsignal.setitimer(2, 0)", DENIED),
    "lifting limits": (DIG + "libc.setrlimit(9, bytes([255] * 16))", DENIED),
    "limits by module": ("import resource", DENIED),
    "shell": ("import os\nos.execv('/bin/sh', ['sh', '-c', 'true'])", DENIED),
    "system": ("import os\nos.system('true')", DENIED),
    "subprocess": ("import subprocess\nsubprocess.run(['true'])", DENIED),
    "ctypes": ("import ctypes", DENIED),
    "tracing": (DIG + "libc.ptrace(16, 1, 0, 0)", DENIED),
    "fork in C": (DIG + "libc.fork()", DENIED),
    "new session": ("import os\nos.setsid()", DENIED),
    "early exit with an answer": ("import os\nprint(42, flush=True)\nos._exit(0)", DENIED),
    "closing the channel": ("import os\nos.close(3)", DENIED),
    "taking the channel": ("import os\nos.dup2(1, 3)", DENIED),
    "forging a result": ("import os\nprint(42, flush=True)\nos.write(3, b'd')", DENIED),
    "forging JSON": ('import os\nos.write(3, b\'{{"outcome": "ok"}}\')', DENIED),
    "forging a fault": ("import os\nos.write(3, b'f')\n" + ENDLESS, DENIED),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as sandbox:
        sandbox.run("1")  # its processes are there now
        yield sandbox


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    file = tmp_path / "outside.txt"
    file.write_text("as it was")
    return file


def processes() -> set[int]:
    """Ours, however deep."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():  # what was true once may have passed by when it is asked again
            return True
        time.sleep(0.01)
    return False


# --- hostile programs ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["import time\ntime.sleep(1e9)", DIG + "libc.sleep(10**6)"])
def test_an_endless_sleep_ends_by_the_clock(code: str) -> None:
    with Sandbox(Limits(wall_s=0.3)) as sandbox:
        ran = sandbox.run(code)
    assert (ran.outcome, ran.error) == (TIMEOUT, "exceeded the limit of wall-clock time")


@pytest.mark.parametrize(
    ("name", "caught"),
    [
        *((name, False) for name in HOSTILE),
        # nothing to catch where time runs out
        *((name, True) for name, (_, expected) in HOSTILE.items() if expected is not TIMEOUT),
    ],
)
def test_a_hostile_program_ends_as_an_error_even_where_it_catches_everything(
    name: str, caught: bool, sandbox: Sandbox, outside: Path
) -> None:
    code, expected = HOSTILE[name]
    code = code.format(outside=str(outside))
    if caught:
        lines = "\n ".join(code.splitlines())
        code = f"try:\n {lines}\nexcept BaseException: pass\nheld = text = None\nprint(42)"
    rights, before = outside.stat().st_mode, processes()
    ran = sandbox.run(code)
    assert (ran.outcome, ran.answered) == (expected, False), ran
    assert ran.error
    assert sandbox.run("print(6 * 7)") == GOOD
    assert [file.name for file in outside.parent.iterdir()] == [outside.name]
    assert (outside.read_text(), outside.stat().st_mode) == ("as it was", rights)
    assert processes() == before


def test_a_program_that_overflows_the_stack_loses_only_itself(sandbox: Sandbox) -> None:
    deep = "def f(n): return max([n], key=lambda k: f(k + 1))\nf(0)"
    ran = sandbox.run("import sys\nsys.setrecursionlimit(10**9)\n" + deep)
    # from 3.12 on, Python bounds its own use of the stack
    assert ran.outcome is (CRASHED if sys.version_info < (3, 12) else RAISED), ran
    assert sandbox.run("print(6 * 7)") == GOOD


def test_nothing_is_known_of_the_world_outside(sandbox: Sandbox, outside: Path) -> None:
    code = f"""
import os, sys
print([os.path.exists(path) for path in ("/", "/proc", "/etc/passwd", {str(outside)!r}, ".")])
print(sorted(os.environ), sys.argv, sys.path, repr(open(0).read()))
ours = ("forkdiv", "ctypes", "socket", "subprocess", "site")
print([name for name in sys.modules if name.startswith(ours)])
"""
    ran = sandbox.run(code)
    environment = ["LC_ALL", "PYTHONHASHSEED", "TZ"]
    assert ran.printed.splitlines() == [
        str([False] * 5),
        f"{environment} ['<solution>'] [] ''",
        "[]",
    ]


def test_a_secret_dug_out_to_forge_the_end_only_ends_the_run_early(sandbox: Sandbox) -> None:
    forge = "import os, sys\ntoken = sys.meta_path[0]._token\nprint(1, flush=True)\n"
    ran = sandbox.run(forge + "os.write(3, token + b'd')\nimport time\ntime.sleep(9)\nprint(2)")
    assert ran == RunResult(OK, "1\n", "")
    assert sandbox.run("print(6 * 7)") == GOOD


def test_what_is_printed_is_held_to_its_limit(sandbox: Sandbox) -> None:
    most = LIMITS.output_kib * 1024
    assert sandbox.run(f"print('x' * {most - 1})") == RunResult(OK, "x" * (most - 1) + "\n", "")
    over = sandbox.run(f"print('x' * {most})")
    assert (over.outcome, over.printed) == (OUTPUT, "x" * most)


# --- plain programs -----------------------------------------------------------------------------

PLAIN = {
    "function": ("def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(15))", "610"),
    "recursion": ("def f(n): return n and 1 + f(n - 1)\nprint(f(990))", "990"),
    "maths": (
        "import math\nprint(math.comb(60, 30), f'{math.pi:.3f}')",
        f"{math.comb(60, 30)} 3.142",
    ),
    "fractions": ("from fractions import Fraction\nprint(Fraction(1, 3) + 1)", str(Fraction(4, 3))),
    "big numbers": ("print(3**2000 % 10**9, len(str(2**9999)))", f"{3**2000 % 10**9} 3010"),
    "text": ("print('é \\N{BULLET}', f'{1234567:,}')", "é • 1,234,567"),
    "class": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\n"
        "class Point:\n  x: int\nprint(Point(3), __name__)",
        "Point(x=3) __main__",
    ),
    "main": ("def main():\n  print(1)\nif __name__ == '__main__':\n  main()", "1"),
    "exit of zero": ("import sys\nprint(1)\nsys.exit(0)", "1"),
    "caught": ("try: 1 / 0\nexcept ZeroDivisionError as e: print(e)", "division by zero"),
    "traceback": (
        "import traceback\ntry: 1 / 0\nexcept Exception: traceback.print_exc()\nprint(1)",
        "1",
    ),
    "syntax": (
        "try: exec('x = (1')\nexcept SyntaxError as e: print(e.msg)",
        "'(' was never closed",
    ),
    "warning": ("import warnings\nwarnings.warn('x')\nx = 1\nprint(x is 1)", "True"),
    "fallback": ("try: import numpy\nexcept ImportError: print('none')", "none"),
    "own output": (
        "import io, contextlib\nheld = io.StringIO()\n"
        "with contextlib.redirect_stdout(held): print(1)\nprint(held.getvalue() * 2)",
        "1\n1\n",
    ),
    "wrapped output": (
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint(1)",
        "1",
    ),
    "no output left": ("import sys\nprint(1)\nsys.stdout = None", "1"),
    "at the end": ("import atexit\natexit.register(print, 2)\nprint(1)", "1\n2"),
    "dates": (
        "from datetime import *\nd = datetime.strptime('2020-02-28', '%Y-%m-%d')\n"
        "print((d + timedelta(2)).date(), d.astimezone().tzname())",
        "2020-03-01 UTC",
    ),
    "clock": (
        "import time\nt = time.monotonic()\ntime.sleep(0.01)\nprint(time.monotonic() > t)",
        "True",
    ),
    "memory": ("held = [0] * 10**6\nprint(len(held))", "1000000"),
    "codecs": ("print(len('é'.encode('utf-16')), 'abc'.encode('latin-1').hex())", "4 616263"),
    "threads' lock": ("import threading\nwith threading.Lock(): print(1)", "1"),
    "no such codec": ("try: ''.encode('none')\nexcept LookupError: print(1)", "1"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_program_runs_as_anywhere(name: str, sandbox: Sandbox) -> None:
    code, printed = PLAIN[name]
    assert sandbox.run(code) == RunResult(OK, printed + "\n", "")
    bare = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-W", "ignore", "-c", code],
        env={"TZ": "UTC0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert bare.stdout.decode() == printed + "\n"


def test_exit_and_quit_end_a_program_like_its_end(sandbox: Sandbox) -> None:
    for word in ("exit()", "quit()", "exit(0)", "import sys\nsys.exit()"):
        assert sandbox.run(f"print(6 * 7)\n{word}\nprint(43)") == GOOD


@pytest.mark.parametrize(
    ("code", "error"),
    {
        "1 / 0": "ZeroDivisionError: division by zero",
        "print(": "SyntaxError: '(' was never closed (<solution>, line 2)",
        "print(1)\0": "SyntaxError: source code string cannot contain null bytes",
        "print(x)": "NameError: name 'x' is not defined",
        "import numpy": "ModuleNotFoundError: No module named 'numpy'",
        "input()": "EOFError: EOF when reading a line",
        "def f(): f()\nf()": "RecursionError: maximum recursion depth exceeded",
        "raise SystemExit('no')": "SystemExit: no",
        "class E(Exception):\n def __str__(self): raise self\nraise E": "E",
        "raise KeyboardInterrupt": "KeyboardInterrupt: ",
        "assert 1 == 2, 'x' * 10**6": "AssertionError: " + "x" * 984,
    }.items(),
)
def test_an_exception_of_its_own_is_the_programs_answer(
    code: str, error: str, sandbox: Sandbox
) -> None:
    ran = sandbox.run("print('so far')\n" + code)
    printed = "" if error.startswith("SyntaxError") else "so far\n"
    assert (ran.outcome, ran.printed, ran.answered) == (RAISED, printed, True)
    assert ran.error.startswith(error) if error.startswith("Rec") else ran.error == error


def test_every_module_offered_can_be_imported_and_others_are_no_answer(sandbox: Sandbox) -> None:
    assert sandbox.run(f"import {', '.join(MODULES)}\nprint(6 * 7)") == GOOD
    others = {name for name in sys.stdlib_module_names if name in ("asyncio", "sqlite3", "tkinter")}
    for name in others:
        assert sandbox.run(f"import {name}") == RunResult(
            DENIED, "", f"import of {name}, which the sandbox does not offer"
        )


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_comes_back_as_it_was_printed(sandbox: Sandbox, text: str) -> None:
    with_newlines = text.replace("\r", "")
    code = f"import sys\nsys.stdout.write({with_newlines!r})"
    assert sandbox.run(code) == RunResult(OK, with_newlines, "")


@settings(max_examples=60, deadline=None)
@given(code=st.text(max_size=80))
def test_any_text_at_all_can_be_sent_as_a_program(sandbox: Sandbox, code: str) -> None:
    assert sandbox.run(code).answered
    assert sandbox.run("print(6 * 7)") == GOOD


# --- runs do not know of each other -------------------------------------------------------------

LEAVES_TRACES = """
import builtins, math, random, sys, os, time
math.pi = 3; builtins.len = None; random.random(); sys.setrecursionlimit(50); sys.traces = 1
os.environ["TRACE"] = "1"; time.time = None; builtins.print("mine"); builtins.print = None
"""
READS_TRACES = """
import math, random, sys, os, time
print(math.pi, len("abc"), random.random(), {"a", "b", "c"}, hasattr(sys, "traces"))
print(sys.getrecursionlimit(), "TRACE" in os.environ, callable(time.time), "x" in globals())
x = 1
"""


def test_a_program_prints_the_same_whatever_ran_before_and_in_any_sandbox(sandbox: Sandbox) -> None:
    with Sandbox(LIMITS) as fresh:
        first = fresh.run(READS_TRACES)
    assert first.outcome is OK
    for before in (LEAVES_TRACES, READS_TRACES, "import os\nos.fork()", "1 / 0"):
        sandbox.run(before)
        assert sandbox.run(READS_TRACES) == first


def test_two_hundred_programs_get_each_their_own_answer(sandbox: Sandbox) -> None:
    assert [sandbox.run(f"print({n} ** 2)").printed for n in range(200)] == [
        f"{n * n}\n" for n in range(200)
    ]


# --- the sandbox itself -------------------------------------------------------------------------


def test_no_process_is_left_when_a_sandbox_closes() -> None:
    before = processes()
    with Sandbox(LIMITS) as sandbox:
        sandbox.run("1")
        assert processes() > before
    assert processes() == before


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_a_sandbox_that_dies_or_hangs_is_lost_and_the_next_run_starts_another(
    way: signal.Signals,
) -> None:
    before = processes()
    with Sandbox(Limits(cpu_s=0.5, wall_s=0.5, memory_mib=64), patience_s=2.0) as sandbox:
        assert sandbox.run("print(6 * 7)") == GOOD
        (lost,) = processes() - before
        os.kill(lost, way)
        with pytest.raises(SandboxLost, match=r"ended with status -9|did not reply within 2\.5 s"):
            sandbox.run("print(6 * 7)")
        assert not psutil.pid_exists(lost)
        assert sandbox.run("print(6 * 7)") == GOOD


def test_a_lost_sandbox_leaves_no_running_program_behind() -> None:
    before = processes()
    with (
        Sandbox(Limits(cpu_s=60, wall_s=60, memory_mib=64)) as sandbox,
        ThreadPoolExecutor() as pool,
    ):
        sandbox.run("1")
        (server,) = processes() - before
        running = pool.submit(sandbox.run, ENDLESS)
        assert eventually(lambda: len(processes() - before) == 2)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(SandboxLost):
            running.result(10)
        assert eventually(lambda: processes() == before)


def test_nothing_outlives_a_killed_caller() -> None:
    code = (
        "from forkdiv.tasks.sandbox.run import *;"
        " Sandbox(Limits(cpu_s=1, wall_s=1)).run('while True: 1')"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    family: dict[int, psutil.Process] = {}

    def both() -> bool:
        found = psutil.Process(caller.pid).children(recursive=True)
        family.update((one.pid, one) for one in found)
        try:
            return any(one.parent() in found for one in found)  # a program under a server
        except psutil.NoSuchProcess:
            return False  # one of them has just ended: look again

    assert eventually(both, 30)
    caller.kill()
    caller.wait()
    assert eventually(lambda: not any(one.is_running() for one in family.values()))


def test_the_timers_hold_for_a_caller_that_ignores_and_blocks_their_signals() -> None:
    code = """
import signal
from forkdiv.tasks.sandbox.run import *
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGPROF})
with Sandbox(Limits(cpu_s=0.1, wall_s=20)) as sandbox:
    print(sandbox.run("while True: pass").error)
with Sandbox(Limits(cpu_s=20, wall_s=0.5)) as sandbox:
    print(sandbox.run("import time; time.sleep(9)").error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "exceeded the limit of CPU time\nexceeded the limit of wall-clock time\n"


@pytest.mark.parametrize(
    "wrong",
    [{"cpu_s": 0.0}, {"wall_s": float("nan")}, {"wall_s": float("inf")}, {"memory_mib": 63},
     {"output_kib": 0}],
)  # fmt: skip
def test_limits_that_cannot_be_enforced_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=rf"limit {name} is not valid: got .*; allowed: .* or more"):
        Limits(**wrong)  # type: ignore[arg-type]


def test_this_machine_can_hold_them() -> None:
    assert unavailable() is None
