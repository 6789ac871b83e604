"""Reads the lines of a text file, also of one compressed by gzip, within limits of size.

All rows of a file are kept in memory. A line or a file above the limits is named before it fills
the memory: a file without line ends is a single line.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from forkdiv.core.files import size_text
from forkdiv.tasks.own_data.file import one_line, unreadable

BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 32 * 2**20  # bytes
LARGEST_FILE = 2 * 2**30  # bytes, after decompression
LARGEST_JSON = 2**29  # bytes of a JSON document, which is decoded as a whole
TOO_LONG = b"\0" * 8  # stands for a line above LONGEST_LINE; no text that can be read is equal
GZIP = b"\x1f\x8b"


@contextmanager
def open_bytes(path: Path, largest: int) -> Iterator[IO[bytes]]:
    """Opens a file for reading; one that begins as gzip does is decompressed.

    Raises UserError if it cannot be read or decompressed, or is larger than `largest` bytes.
    """
    try:
        with path.open("rb") as raw:
            is_gzip = raw.peek(2)[:2] == GZIP
            require_size(path, 0 if is_gzip else os.fstat(raw.fileno()).st_size, largest)
            with gzip.open(raw) if is_gzip else raw as opened:
                yield opened  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, one_line(error)) from error


def byte_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines with their numbers, from 1, without a byte order mark; `TOO_LONG` in place
    of a line that is too long. Raises UserError if the file is too large."""
    total = 0
    with open_bytes(path, LARGEST_FILE) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            total += len(line)
            if len(line) > LONGEST_LINE:
                while rest := file.readline(2**20):
                    total += len(rest)
                    require_size(path, total, LARGEST_FILE)
                    if rest.endswith(b"\n"):
                        break
                line = TOO_LONG
            require_size(path, total, LARGEST_FILE)
            yield number, line.removeprefix(BOM) if number == 1 else line


def text_lines(path: Path) -> Iterator[str]:
    """Yields the lines as text, with their ends. An invalid byte becomes a lone surrogate, so that
    its row can be reported and the others read. Raises UserError for a line that is too long."""
    total = 0
    with open_bytes(path, LARGEST_FILE) as file:
        refuse_utf16(path, file.peek(4)[:4])  # type: ignore[attr-defined]
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        number = 0
        while line := text.readline(LONGEST_LINE + 1):
            number += 1
            total += len(line)
            if len(line) > LONGEST_LINE:
                raise unreadable(path, f"line {number} is longer than {size_text(LONGEST_LINE)}")
            require_size(path, total, LARGEST_FILE)
            yield line


def whole(path: Path) -> bytes:
    """Returns the whole content without a byte order mark. Raises UserError if it is too large."""
    with open_bytes(path, LARGEST_JSON) as file:
        data = file.read(LARGEST_JSON + 1)
    require_size(path, len(data), LARGEST_JSON)
    refuse_utf16(path, data)
    return data.removeprefix(BOM)


def refuse_utf16(path: Path, start: bytes) -> None:
    """Raises UserError if a file begins as UTF-16 does, with or without a byte order mark."""
    zeros = [byte == 0 for byte in start[:4]]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or zeros in (
        [False, True, False, True],
        [True, False, True, False],
    ):
        raise unreadable(path, "it is UTF-16; convert it to UTF-8")


def require_size(path: Path, size: int, largest: int) -> None:
    """Raises UserError for a file, or the columns that are read of it, of more than `largest`
    bytes."""
    if size > largest:
        hint = (
            "; a larger file can be JSONL, one object per line" if largest == LARGEST_JSON else ""
        )
        raise unreadable(
            path,
            f"it is larger than {size_text(largest)}, and all its rows are kept in memory; use a "
            f"part of it{hint}",
        )
