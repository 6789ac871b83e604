"""Walls around the current process, held by the kernel and never taken down again.

What each wall stops, and which machinery of Linux holds it:

- `limit_resources` (rlimits): address space, file size, processes, descriptors, core dumps
- `limit_time` (interval timers): seconds of processor and seconds on the clock
- `close_files` (Landlock): every path, every TCP port, signals to processes outside
- `filter_calls` (seccomp): every system call but the few that a running Python needs

None needs a privilege. Root is held as well: it is exempt from the limit on processes, but a
filtered process cannot fork at all. The order matters, since the filter denies the others.

Machinery: seccomp(2), landlock(7), setrlimit(2), setitimer(2), linux/filter.h.
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
OUT_OF_MEMORY = signal.SIGSYS.value  # exit status after a single request beyond the limit

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand

LOAD, RETURN = 0x20, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_RET|BPF_K
EQUAL, GREATER, AT_LEAST = 0x15, 0x25, 0x35  # BPF_JMP|BPF_J{EQ,GT,GE}|BPF_K
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
KILL, TRAP, ERRNO, PASS = 0x8000_0000, 0x0003_0000, 0x0005_0000, 0x7FFF_0000
NO_SUCH_FILE, NOT_A_TERMINAL = 2, 25  # ENOENT, ENOTTY

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446  # on every machine
X32_BIT = 0x4000_0000

# What a running Python asks of the kernel that concerns nobody else.
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
# Questions about paths, which Landlock lets through: this process lives where no file exists.
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
    """A processor's name in the filter and its system call numbers (asm/unistd.h)."""

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
    """Raises OSError where neither the system nor the processor is one we have walls for."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} is not Linux")
    if platform.machine() not in MACHINES or struct.calcsize("P") != 8:
        raise OSError(f"no filter of system calls is written for {platform.machine()}")
    return MACHINES[platform.machine()]


def call_filter(machine: Machine, memory: int) -> list[Instruction]:
    """Pass what Python needs, kill the process for anything else.

    One request for more than `memory` bytes traps. With the other requests failing beyond
    twice `memory` (`limit_resources`), no failed request goes unseen: it traps, or the process
    is larger than `memory` already. A snippet that catches its MemoryError is found out so.
    """
    rules = dict.fromkeys(PASSED, _ret(PASS))
    rules |= dict.fromkeys(ABSENT, _ret(ERRNO | NO_SUCH_FILE))
    rules["ioctl"] = _ret(ERRNO | NOT_A_TERMINAL)
    rules["mmap"] = _at_most(1, memory, otherwise=TRAP)
    rules["mremap"] = _at_most(2, memory, otherwise=TRAP)
    # C's fopen of the source, to quote it in a SyntaxError; whatever Python opens has O_CLOEXEC
    rules["openat"] = [(LOAD, 0, 0, ARGUMENTS + 16), (EQUAL, 0, 1, os.O_RDONLY)]
    rules["openat"] += [*_ret(ERRNO | NO_SUCH_FILE), *_ret(KILL)]
    # `open(0)` closes its descriptor when done: say yes and keep it open
    rules["close"] = [(LOAD, 0, 0, ARGUMENTS), (GREATER, 1, 0, 2), *_ret(ERRNO), *_ret(KILL)]
    # the one way out is the handler of a trap; a snippet that leaves early has not finished
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
    """Pass if the 64-bit argument is at most `limit`; both machines are little-endian."""
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
    """Only the calls of `call_filter` from here on. `memory` is in bytes."""
    program = call_filter(machine(), memory)
    _libc().signal(signal.SIGSYS, ctypes.cast(_libc()._exit, ctypes.c_void_p))
    install(program)


def install(program: Sequence[Instruction]) -> None:
    """Put a BPF program before every system call of this process and of its children."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_SECCOMP, 2, header)


def create_ruleset() -> int:
    """A descriptor of Landlock rules that allow nothing the kernel knows to deny."""
    syscall = _libc().syscall
    abi = _checked(syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1), "Landlock")
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)  # of files, by their count
    ports = 2 if abi >= 4 else 0  # TCP: bind, connect
    scopes = 2 if abi >= 6 else 0  # abstract Unix sockets, signals
    rules = struct.pack("=QQQ", *((1 << bits) - 1 for bits in (rights, ports, scopes)))
    return _checked(syscall(LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0), "Landlock")


def close_files(ruleset: int) -> None:
    """No path may be opened, listed, made, changed or removed from here on."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _checked(_libc().syscall(LANDLOCK_RESTRICT, ruleset, 0), "Landlock")


def limit_resources(memory: int, cpu_s: float) -> None:
    """`memory`: bytes by which the address space may grow before the filter says so; the
    kernel gives twice that and then no more."""
    limits = {
        resource.RLIMIT_AS: address_space("self") + 2 * memory,
        resource.RLIMIT_STACK: 8 * MIB,
        resource.RLIMIT_CPU: int(cpu_s) + 2,  # whole seconds; the timer comes first
        resource.RLIMIT_NOFILE: 4,  # those it has
        **dict.fromkeys((resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE), 0),
        **dict.fromkeys((resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE), 0),
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def limit_time(cpu_s: float, wall_s: float) -> None:
    """End by SIGPROF or SIGALRM, whose handlers must be the default ones."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, wall_s)


def die_with_parent(parent: int) -> None:
    """Be killed when the process `parent` ends, even where that was before this call."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise OSError("the parent process is gone")


def address_space(process: int | str, peak: bool = False) -> int:
    """Bytes of address space of a process now, or at most so far (proc(5), status)."""
    wanted = "VmPeak:" if peak else "VmSize:"
    with open(f"/proc/{process}/status") as status:
        for line in status:
            if line.startswith(wanted):
                return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {process} has no memory any more")


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
