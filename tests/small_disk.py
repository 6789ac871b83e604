"""A disk that really fills up."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, kib: int = 64) -> Iterator[Path]:
    """A file system of its own, in memory, which only a mount gives. The test is skipped where
    mounting is not permitted: a pretended full or second disk would prove nothing about the
    kernel's own."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        # lazily: a file may be open, as the cache's lock is
        subprocess.run(["umount", "-l", str(folder)], check=True)
