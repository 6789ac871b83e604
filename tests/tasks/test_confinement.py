"""Walls that a machine only pretends to have are found out, and the filter lets nothing else by."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.errors import UserError
from forkdiv.tasks.sandbox import confinement
from forkdiv.tasks.sandbox.confinement import (
    ABSENT,
    ERRNO,
    KILL,
    MACHINES,
    MIB,
    PASS,
    PASSED,
    TRAP,
)
from forkdiv.tasks.sandbox.run import Sandbox, unavailable

ROOT = Path(__file__).parents[2]
LIMIT = 64 * MIB
# Numbers that only these tests need.
CALLS = {
    "x86_64": {"prctl": 157, "setitimer": 38, "prlimit64": 302, "clone": 56, "socket": 41},
    "aarch64": {"prctl": 167, "setitimer": 103, "prlimit64": 261, "clone": 220, "socket": 198},
}
linux = pytest.mark.skipif(platform.machine() not in CALLS, reason="no filter is written for it")


# --- the filter, run by hand --------------------------------------------------------------------


def judged(name: str, call: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter for a machine says, by the rules of linux/filter.h."""
    machine = MACHINES[name]
    program = confinement.call_filter(machine, LIMIT)
    words = [call, machine.audit if audit is None else audit, 0, 0]
    for argument in (*arguments, *[0] * (6 - len(arguments))):
        words += [argument & 0xFFFF_FFFF, argument >> 32]
    at, loaded = 0, 0
    while True:
        code, yes, no, operand = program[at]
        if code == 0x06:
            return operand
        if code == 0x20:
            loaded, jump = words[operand // 4], 0
        else:
            tests = {0x15: loaded == operand, 0x25: loaded > operand, 0x35: loaded >= operand}
            jump = yes if tests[code] else no
        at += 1 + jump


@pytest.mark.parametrize("name", MACHINES)
def test_a_call_that_is_not_listed_kills(name: str) -> None:
    listed = set(MACHINES[name].calls.values())
    assert {judged(name, call) for call in range(1000) if call not in listed} == {KILL}
    assert all(judged(name, CALLS[name][call]) == KILL for call in CALLS[name])


@pytest.mark.parametrize("name", MACHINES)
def test_calls_in_the_way_of_another_machine_kill(name: str) -> None:
    calls = MACHINES[name].calls
    assert judged(name, calls["read"]) == PASS
    assert judged(name, calls["read"] | 0x4000_0000) == KILL  # x32 of x86_64
    others = [machine.audit for machine in MACHINES.values() if machine is not MACHINES[name]]
    for audit in (*others, 0x4000_0003, 0):  # i386 has another `read`
        assert judged(name, calls["read"], audit=audit) == KILL


@pytest.mark.parametrize("name", MACHINES)
def test_what_needs_no_file_passes_and_files_are_not_there(name: str) -> None:
    calls = MACHINES[name].calls
    assert {judged(name, calls[call]) for call in PASSED if call in calls} == {PASS}
    assert {judged(name, calls[call]) for call in ABSENT if call in calls} == {ERRNO | 2}
    assert not {*PASSED, *ABSENT} - {call for one in MACHINES.values() for call in one.calls}


@given(name=st.sampled_from(sorted(MACHINES)), size=st.integers(0, 2**64 - 1))
def test_a_request_for_memory_passes_up_to_the_limit_and_traps_beyond(name: str, size: int) -> None:
    calls = MACHINES[name].calls
    for near in (size, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2**32, 2**32, 2**32 - 1):
        expected = PASS if near <= LIMIT else TRAP
        assert judged(name, calls["mmap"], 0, near) == expected
        assert judged(name, calls["mremap"], 2**40, 2**40, near) == expected


@pytest.mark.parametrize("name", MACHINES)
def test_only_standard_streams_seem_to_close_and_only_a_trap_may_exit(name: str) -> None:
    calls = MACHINES[name].calls
    closed = [judged(name, calls["close"], descriptor) for descriptor in range(5)]
    assert closed == [ERRNO, ERRNO, ERRNO, KILL, KILL]
    exits = {status: judged(name, calls["exit_group"], status) for status in range(256)}
    assert [status for status, said in exits.items() if said == PASS] == [31]
    assert set(exits.values()) == {PASS, KILL}


@pytest.mark.parametrize("name", MACHINES)
def test_opening_kills_but_for_the_way_in_which_c_looks_for_a_source(name: str) -> None:
    opening = MACHINES[name].calls["openat"]
    assert judged(name, opening, 2**32 - 100, 1, 0) == ERRNO | 2
    for flags in (1, 2, 0o100, 0o2000000, 0o200000):
        assert judged(name, opening, 2**32 - 100, 1, flags) == KILL


# --- machines that lack a limit or misreport it -------------------------------------------------

# A filter before ours answers one call in the kernel's place: with an error, or (0) with the
# claim that it is done. Where it has to, it looks at the first argument.
LIES = """
import sys
from forkdiv.tasks.sandbox.confinement import ERRNO, LOAD, EQUAL, PASS, RETURN, ARGUMENTS, install
from forkdiv.core.errors import UserError
number, first, answer = map(int, sys.argv[1:])
rule = [(LOAD, 0, 0, 0), (EQUAL, 0, 3, number), (LOAD, 0, 0, ARGUMENTS)]
rule += [(EQUAL, 0, 1, first) if first >= 0 else (0x05, 0, 0, 0)]
install([*rule, (RETURN, 0, 0, ERRNO | answer), (RETURN, 0, 0, PASS)])
from forkdiv.tasks.sandbox.run import Sandbox
try:
    with Sandbox() as sandbox: print("ran", sandbox.run("print(6 * 7)").printed)
except UserError as error: print("refused:", error)
"""
NOT_IMPLEMENTED, NOT_SUPPORTED, NOT_ALLOWED, DONE = 38, 95, 1, 0
ANY, SECCOMP, AS, NOFILE, FSIZE, WALL, CPU = -1, 22, 9, 7, 1, 0, 2
CREATE, RESTRICT = confinement.LANDLOCK_CREATE, confinement.LANDLOCK_RESTRICT


def told(call: int | str, first: int, answer: int) -> str:
    number = CALLS[platform.machine()][call] if isinstance(call, str) else call
    command = [sys.executable, "-c", LIES, str(number), str(first), str(answer)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@linux
@pytest.mark.parametrize(
    ("call", "first", "answer", "reason"),
    [
        (CREATE, ANY, NOT_IMPLEMENTED, "reading files (ended with OSError 38"),
        (CREATE, ANY, NOT_SUPPORTED, "reading files (ended with OSError 95"),
        (RESTRICT, ANY, DONE, "reading files (ended with done instead of PermissionError"),
        ("prctl", SECCOMP, NOT_ALLOWED, "forking (ended with PermissionError 1 instead of signal"),
        ("prctl", SECCOMP, DONE, "forking (ended with "),
        ("prctl", SECCOMP, DONE, "using the network (ended with done instead of signal 31)"),
        ("prctl", SECCOMP, DONE, "sending signals (ended with done instead of signal 31)"),
        ("prlimit64", ANY, DONE, "allocating memory (ended with done instead of MemoryError)"),
        ("prlimit64", ANY, DONE, "filling the disk (ended with done instead of signal 25)"),
        ("prlimit64", ANY, DONE, "opening more descriptors (ended with done"),
        ("setitimer", CPU, DONE, "computing forever (ended with done instead of signal 27)"),
        ("setitimer", WALL, DONE, "sleeping forever (ended with done instead of signal 14)"),
    ],
)
def test_a_machine_that_lacks_a_limit_or_misreports_it_is_refused(
    call: int | str, first: int, answer: int, reason: str
) -> None:
    message = told(call, first, answer)
    assert message.startswith("refused: this machine cannot confine the programs of a code task")
    assert reason in message
    assert "\n" not in message


@linux
def test_a_filter_that_lies_about_nothing_changes_nothing() -> None:
    assert told(9999, ANY, NOT_ALLOWED) == "ran 42"


@linux
def test_files_stay_closed_to_a_child_even_without_the_filter(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    code = """
import os, sys
from forkdiv.tasks.sandbox import child, confinement
confinement.filter_calls = lambda memory: None  # to test the limit behind it
bounds = child.Bounds(cpu_s=5.0, wall_s=10.0, memory=2**26, output=2**10)
kept, parent = sys.argv[1] + "/kept", os.getppid()
ruleset = confinement.create_ruleset()
child.confine(child.Setup(bounds, ruleset, 0, None, parent, b""))
os.close(ruleset)  # no more than four descriptors, that is another limit
for act in (lambda: open(kept), lambda: open(kept, "w"), lambda: open(kept + "2", "x"),
            lambda: os.remove(kept), lambda: os.listdir("/"), lambda: os.mkdir(kept + "3")):
    try: print(act())
    except PermissionError as error: print(error.errno)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["13"] * 6
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("system", "processor", "reason"),
    [
        ("darwin", "arm64", "darwin is not Linux"),
        ("linux", "riscv64", "riscv64 is not supported by the filter of system calls"),
    ],
)
def test_other_systems_and_processors_are_refused_by_name(
    system: str, processor: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    unavailable.cache_clear()
    try:
        assert unavailable() == reason
        with pytest.raises(UserError, match=re.escape(f"got {reason}; allowed: Linux on")):
            Sandbox()
    finally:
        unavailable.cache_clear()
