"""Text is UTF-8 in every locale: that of files, of arguments and of what is printed.

Without this, a library that opens a text file under LC_ALL=C or a Latin-1 locale reads it wrongly
or fails, and so does printing a word with an accent.
"""

from __future__ import annotations

import codecs
import locale
import os
import sys
from contextlib import suppress


def use_utf8() -> None:
    """Restarts Python in its UTF-8 mode if the locale has another encoding; child processes inherit
    it. What a stream cannot print is escaped."""
    if not sys.flags.utf8_mode and not _is_utf8(locale.getpreferredencoding(False)):
        os.environ["PYTHONUTF8"] = "1"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a test's stream, or none
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _is_utf8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False
