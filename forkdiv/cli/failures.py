"""How a command ends if it fails: one line on standard error, and a status that says what failed.

2: the input is wrong (UserError). 1: a result cannot be trusted (InvalidResult), the disk or the
memory is full, or Ray lost a process or a machine. 3, 4: a condition of --fail-if holds, or cannot
be decided (coverage.conditions). 130: interrupted. 141: the reader of the output has ended, as
`head` does. 70: anything else is a bug of forkdiv; the traceback is in a file that the line names.
70 is EX_SOFTWARE of sysexits.h.
"""

from __future__ import annotations

import errno
import os
import platform
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import typer

import forkdiv
from forkdiv.core import out_of_memory
from forkdiv.core.errors import InvalidResult, UserError, shortened
from forkdiv.core.out_of_memory import is_out_of_memory

INVALID, WRONG_INPUT, BUG = 1, 2, 70
NO_READER = 128 + signal.SIGPIPE
LINE = 2000  # characters
STDOUT = 1
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def one_line(show_traceback: bool = False) -> Iterator[None]:
    """Ends the program with one line and a status if the block raises."""
    try:
        yield
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except UserError as error:
        _end(error, str(error), WRONG_INPUT, show_traceback)
    except InvalidResult as error:
        _end(error, str(error), INVALID, show_traceback)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_ended():
            os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # Python flushes it at its end
            raise typer.Exit(NO_READER) from error
        if error.errno not in _FULL:
            _end(error, bug(error), BUG, show_traceback)
        where = error.filename or "a file"
        wrong = f"the disk is full: writing {where} failed ({error.strerror}); free some space"
        _end(error, f"{wrong} and run the same command again", INVALID, show_traceback)
    except MemoryError as error:
        wrong = f"the memory of this machine is not enough ({str(error) or 'MemoryError'})"
        remedy = "lower the setting that needs it, use smaller files, or use another machine"
        _end(error, f"{wrong}; {remedy}", INVALID, show_traceback)
    except Exception as error:  # noqa: BLE001 - the last boundary: nothing is hidden
        if _is_of_ray(error):
            _end(error, _ray_failed(error), INVALID, show_traceback)
        _end(error, bug(error), BUG, show_traceback)
    except SystemExit as error:
        # foreign code called exit(), maybe with status 0, and there is no result
        _end(error, bug(error), BUG, show_traceback)


def _reader_has_ended() -> bool:
    """Returns whether standard output is a pipe that nobody reads."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _end(error: BaseException, line: str, status: int, show_traceback: bool) -> None:
    if show_traceback:
        traceback.print_exception(error)
    print(f"forkdiv: {shortened(' '.join(line.split()), LINE)}", file=sys.stderr)
    raise typer.Exit(status) from error


def _is_of_ray(error: Exception) -> bool:
    """Returns whether Ray itself reports that a process or a machine was lost, or that training
    failed. An error of our code in one of its processes (RayTaskError) is a bug as any other."""
    classes = type(error).__mro__
    names = {kind.__name__ for kind in classes if kind.__module__.partition(".")[0] == "ray"}
    return bool(names) and "RayTaskError" not in names


def _ray_failed(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    what = f"{type(error).__name__}: {shortened(lines[-1], 300) if lines else 'no message'}"
    if is_out_of_memory(error):
        what = out_of_memory.LINE
    try:
        where = f"the whole message is in {_write_traceback(error)}"
    except OSError:
        where = "--traceback shows the whole message"
    return (
        f"a process of Ray failed ({what}); {where}; correct the cause and "
        "run the same command again: finished work is kept"
    )


def bug(error: BaseException) -> str:
    """Writes the traceback to a file; returns the line that names the error and the file."""
    what = type(error).__name__
    if text := shortened(" ".join(str(error).split()), 300):
        what += f": {text}"
    line = f"an unexpected error, which is a bug of forkdiv: {what}"
    if where := _raised_in(error):
        line += f" ({where})"
    try:
        written = _write_traceback(error)
    except OSError as failure:
        traceback.print_exception(error)
        return f"{line}; the traceback is above, because it cannot be written ({failure})"
    return f"{line}; the traceback is in {written}; please report it with this file"


def _raised_in(error: BaseException) -> str:
    """Returns the innermost line of forkdiv, jobs or tuning that the error passed through."""
    package = Path(forkdiv.__file__).parent
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(package)
        or Path(frame.filename).parent in (package.parent / "jobs", package.parent / "tuning")
    ]
    if not own:
        return ""
    return f"{Path(own[-1].filename).relative_to(package.parent)}:{own[-1].lineno}"


def _write_traceback(error: BaseException) -> str:
    handle, path = tempfile.mkstemp(prefix="forkdiv-traceback-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"forkdiv {metadata.version('forkdiv')}, Python {platform.python_version()}\n")
        file.write(f"command: {sys.argv}\nfolder: {Path.cwd()}\n\n")
        file.writelines(traceback.format_exception(error))
    return path
