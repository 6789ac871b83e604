"""Limits on the current process that the kernel enforces and that cannot be removed again.

What each function limits, and the Linux feature it uses:

- `limit_resources` (rlimits): address space, file size, processes, descriptors, core dumps
- `limit_time` (interval timers): CPU seconds and wall-clock seconds
- `close_files` (Landlock): all paths, all TCP ports, signals to processes outside
- `filter_calls` (seccomp): all system calls except the few that a running Python needs

None needs privileges. Root is confined as well: it is exempt from the limit on processes, but a
filtered process cannot fork at all. The order matters: the filter blocks the other functions.

References: seccomp(2), landlock(7), setrlimit(2), setitimer(2), linux/filter.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

MIB = 2**20
OUT_OF_MEMORY = signal.SIGSYS.value  # exit status after a single allocation beyond the limit

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand

LOAD, RETURN = 0x20, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_RET|BPF_K
EQUAL, GREATER, AT_LEAST = 0x15, 0x25, 0x35  # BPF_JMP|BPF_J{EQ,GT,GE}|BPF_K
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
KILL, TRAP, ERRNO, PASS = 0x8000_0000, 0x0003_0000, 0x0005_0000, 0x7FFF_0000
NO_SUCH_FILE, NOT_A_TERMINAL = 2, 25  # ENOENT, ENOTTY

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446  # the same on all architectures
X32_BIT = 0x4000_0000

# System calls of a running Python that do not affect other processes.
PASSED = [
    "read",
    "write",
    "lseek",
    "fstat",
    "brk",
    "munmap",
    "mprotect",
    "madvise",
    "futex",
    "rt_sigreturn",
    "restart_syscall",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "times",
    "getrusage",
    "getrandom",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "sched_yield",
    "sched_getaffinity",
    "uname",
]
# Queries about paths, which Landlock allows: the filter answers that the path does not exist.
ABSENT = [
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getcwd",
]


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture's audit number and its system call numbers (asm/unistd.h)."""

    audit: int
    calls: Mapping[str, int]


def _numbers(table: str) -> dict[str, int]:
    words = table.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


MACHINES = {
    "x86_64": Machine(
        0xC000_003E,
        _numbers("""
        read 0 write 1 close 3 stat 4 fstat 5 lstat 6 lseek 8 mmap 9 mprotect 10 munmap 11 brk 12
        rt_sigreturn 15 ioctl 16 access 21 sched_yield 24 mremap 25 madvise 28 nanosleep 35
        getpid 39 uname 63 getcwd 79 readlink 89 gettimeofday 96 getrusage 98 times 100 getuid 102
        getgid 104 geteuid 107 getegid 108 getppid 110 gettid 186 time 201 futex 202
        sched_getaffinity 204 restart_syscall 219 clock_gettime 228 clock_getres 229
        clock_nanosleep 230 exit_group 231 openat 257 newfstatat 262 readlinkat 267 faccessat 269
        getrandom 318 statx 332 faccessat2 439
        """),
    ),
    "aarch64": Machine(
        0xC000_00B7,
        _numbers("""
        getcwd 17 ioctl 29 faccessat 48 openat 56 close 57 lseek 62 read 63 write 64 readlinkat 78
        newfstatat 79 fstat 80 exit_group 94 futex 98 nanosleep 101 clock_gettime 113
        clock_getres 114 clock_nanosleep 115 sched_getaffinity 123 sched_yield 124
        restart_syscall 128 rt_sigreturn 139 times 153 uname 160 getrusage 165 gettimeofday 169
        getpid 172 getppid 173 getuid 174 geteuid 175 getgid 176 getegid 177 gettid 178 brk 214
        munmap 215 mremap 216 mmap 222 mprotect 226 madvise 233 getrandom 278 statx 291
        faccessat2 439
        """),
    ),
}


def machine() -> Machine:
    """Returns this machine's architecture. Raises OSError if it is not supported."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} is not Linux")
    if platform.machine() not in MACHINES or struct.calcsize("P") != 8:
        raise OSError(f"{platform.machine()} is not supported by the filter of system calls")
    return MACHINES[platform.machine()]


def call_filter(machine: Machine, memory: int) -> list[Instruction]:
    """Returns a filter that allows the calls that Python needs; any other call kills the process.

    A single allocation of more than `memory` bytes traps. Other allocations fail only beyond twice
    `memory` (`limit_resources`). So a failed allocation is always detected, even if the program
    catches MemoryError: it traps, or the process is already larger than `memory`.
    """
    rules = dict.fromkeys(PASSED, _ret(PASS))
    rules |= dict.fromkeys(ABSENT, _ret(ERRNO | NO_SUCH_FILE))
    rules["ioctl"] = _ret(ERRNO | NOT_A_TERMINAL)
    rules["mmap"] = _at_most(1, memory, otherwise=TRAP)
    rules["mremap"] = _at_most(2, memory, otherwise=TRAP)
    # C's fopen of the source, to quote it in a SyntaxError; all other opens have O_CLOEXEC
    rules["openat"] = [(LOAD, 0, 0, ARGUMENTS + 16), (EQUAL, 0, 1, os.O_RDONLY)]
    rules["openat"] += [*_ret(ERRNO | NO_SUCH_FILE), *_ret(KILL)]
    # `open(0)` closes its descriptor at its end: return success and keep it open
    rules["close"] = [(LOAD, 0, 0, ARGUMENTS), (GREATER, 1, 0, 2), *_ret(ERRNO), *_ret(KILL)]
    # only the handler of a trap may exit; a program that exits early has not finished
    rules["exit_group"] = [
        *((LOAD, 0, 0, ARGUMENTS), (EQUAL, 1, 0, OUT_OF_MEMORY)),
        *(*_ret(KILL), *_ret(PASS)),
    ]
    program: list[Instruction] = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, machine.audit)]
    program += [*_ret(KILL), (LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32_BIT), *_ret(KILL)]
    for name, rule in rules.items():
        if name in machine.calls:
            program += [(EQUAL, 0, len(rule), machine.calls[name]), *rule]
    return [*program, *_ret(KILL)]


def _ret(action: int) -> list[Instruction]:
    return [(RETURN, 0, 0, action)]


def _at_most(argument: int, limit: int, otherwise: int) -> list[Instruction]:
    """Returns a rule that passes if the 64-bit argument is at most `limit` (little-endian)."""
    low = ARGUMENTS + 8 * argument
    return [
        (LOAD, 0, 0, low + 4),
        (GREATER, 4, 0, limit >> 32),
        (EQUAL, 0, 2, limit >> 32),
        (LOAD, 0, 0, low),
        (GREATER, 1, 0, limit & 0xFFFF_FFFF),
        *_ret(PASS),
        *_ret(otherwise),
    ]


def filter_calls(memory: int) -> None:
    """Allows only the calls of `call_filter` from now on. `memory` is in bytes."""
    program = call_filter(machine(), memory)
    _libc().signal(signal.SIGSYS, ctypes.cast(_libc()._exit, ctypes.c_void_p))
    install(program)


def install(program: Sequence[Instruction]) -> None:
    """Installs a BPF program as the filter of all system calls of this process and its children."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_SECCOMP, 2, header)


def create_ruleset() -> int:
    """Returns a descriptor of Landlock rules that deny everything that the kernel can deny."""
    syscall = _libc().syscall
    abi = _checked(syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1), "Landlock")
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)  # of files, by their count
    ports = 2 if abi >= 4 else 0  # TCP: bind, connect
    scopes = 2 if abi >= 6 else 0  # abstract Unix sockets, signals
    rules = struct.pack("=QQQ", *((1 << bits) - 1 for bits in (rights, ports, scopes)))
    return _checked(syscall(LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0), "Landlock")


def close_files(ruleset: int) -> None:
    """Forbids to open, list, create, change or remove any path from now on."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _checked(_libc().syscall(LANDLOCK_RESTRICT, ruleset, 0), "Landlock")


def limit_resources(memory: int, cpu_s: float) -> None:
    """Sets the rlimits. `memory`: bytes by which the address space may grow before the filter
    reports it; the kernel refuses growth beyond twice that."""
    limits = {
        resource.RLIMIT_AS: address_space("self") + 2 * memory,
        resource.RLIMIT_STACK: 8 * MIB,
        resource.RLIMIT_CPU: int(cpu_s) + 2,  # whole seconds; the timer fires first
        resource.RLIMIT_NOFILE: 4,  # those that are open
        **dict.fromkeys((resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE), 0),
        **dict.fromkeys((resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE), 0),
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def limit_time(cpu_s: float, wall_s: float) -> None:
    """Starts timers that end the process by SIGPROF or SIGALRM; needs their default handlers."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, wall_s)


def die_with_parent(parent: int) -> None:
    """Makes this process be killed when `parent` ends. Raises OSError if it has already ended."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise OSError("the parent process has ended")


def address_space(process: int | str, peak: bool = False) -> int:
    """Returns the current or peak address space of a process in bytes (proc(5), status)."""
    field = "VmPeak:" if peak else "VmSize:"
    with open(f"/proc/{process}/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {process} has ended")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int, pointer: bytes | None = None) -> None:
    # varargs: every argument must be as wide as a register
    wide = (ctypes.c_ulong(value), pointer, ctypes.c_ulong(0), ctypes.c_ulong(0))
    _checked(_libc().prctl(option, *wide), f"prctl {option}")


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result
