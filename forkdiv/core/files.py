"""Checks of files that a person names: regular files only, and small ones read at once.

A FIFO would block for ever and a device such as /dev/zero never ends, so both are refused before
they are opened. Sizes of files in messages.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from forkdiv.core.errors import UserError, refuse

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (a pipe)",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_small_text(path: Path, what: str, most_bytes: int, remedy: str) -> str:
    """Returns the text (UTF-8) of a regular file. `what` names the file in messages ("the config").

    Raises UserError for anything else than a regular file, for more than `most_bytes`, and for
    bytes that are not UTF-8.
    """
    wrong = f"{what} cannot be read"
    try:
        # O_NONBLOCK: opening a FIFO returns at once; the kind is checked on what was opened
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(wrong, f"{path} ({reason})", "a readable text file", remedy) from error
    try:
        kind = stat.S_IFMT(os.fstat(handle).st_mode)
        if kind != stat.S_IFREG:
            came = f"{path}, which is {_KINDS.get(kind, 'no file')}"
            raise refuse(wrong, came, "a regular file", f"{remedy}, or save its content to a file")
        with os.fdopen(handle, "rb", closefd=False) as opened:
            data = opened.read(most_bytes + 1)
    except OSError as error:
        came = f"{path} ({error.strerror})"
        raise refuse(wrong, came, "a readable text file", remedy) from error
    finally:
        os.close(handle)
    if len(data) > most_bytes:
        raise _too_large(wrong, path, most_bytes, remedy)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        came = f"{path} (byte {error.start} is not UTF-8)"
        raise refuse(wrong, came, "a text file in UTF-8", f"{remedy}, or convert it") from error


def require_regular(path: Path, wrong: str, remedy: str) -> None:
    """Raises UserError unless `path` is a regular file or a link to one. `wrong` begins the
    message."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(wrong, f"{path} ({reason})", "an existing file", remedy) from error
    if kind != stat.S_IFREG:
        came = f"{path}, which is {_KINDS.get(kind, 'no file')}"
        raise refuse(wrong, came, "a regular file", f"{remedy}, or save its content to a file")


def _too_large(wrong: str, path: Path, most_bytes: int, remedy: str) -> UserError:
    size = path.stat().st_size
    return refuse(wrong, f"{path} of {size:,} bytes", f"at most {most_bytes:,} bytes", remedy)


def size_text(size: int) -> str:
    """Returns a number of bytes as a person reads it, such as `2.9 MiB`."""
    unit, name = next(
        (unit for unit in ((2**30, "GiB"), (2**20, "MiB")) if size >= unit[0]), (2**10, "KiB")
    )
    return f"{round(size / unit, 1):g} {name}"
