"""Local copies of results on S3-compatible storage, bounded in size: what was not used for longest
is removed first, and never what a process uses.

A process that uses a copy holds a shared kernel lock, which is released when it dies. Copies hold
nothing that the storage does not have.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

LOCKS = "leases"  # beside the copies, as in a store on a disk
RESCAN_SHARE = 0.02  # the sizes are read again after so much of the limit was added
MAX_RESCAN = 2**30

# of this process: lock file -> open file; for all `Cache` objects of a folder
_held: dict[Path, int] = {}
_added: dict[Path, int] = {}
_guard = threading.RLock()


@dataclass(frozen=True)
class Usage:
    """A copy: its folder, size in bytes, and when it was used last."""

    folder: Path
    lock: Path
    size: int
    used: float


@dataclass(frozen=True)
class Cache:
    """The copies in `folder`, as STAGE/FINGERPRINT. More than `limit` bytes are kept only while
    processes use them; `min_free` bytes of the disk are left free."""

    folder: Path
    limit: int
    min_free: int = 0

    def path(self, stage: str, fingerprint: str) -> Path:
        return self.folder / stage / fingerprint

    def use(self, stage: str, fingerprint: str) -> None:
        """Marks a copy as used now, and in use by this process until `released` ends; waits while
        another process removes it."""
        lock = self._lock(stage, fingerprint)
        with _guard:
            if lock not in _held:
                lock.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH)
                except BaseException:
                    os.close(handle)
                    raise
                _held[lock] = handle
        os.utime(lock)

    @contextmanager
    def released(self) -> Iterator[None]:
        """At the end of the block, copies that it began to use are no longer in use by this
        process, in any of its threads."""
        with _guard:
            before = set(_held)
        try:
            yield
        finally:
            with _guard:
                for lock in set(_held) - before:
                    os.close(_held.pop(lock))

    def release(self, stage: str, fingerprint: str) -> None:
        """Says that this process does not use a copy any more."""
        with _guard:
            handle = _held.pop(self._lock(stage, fingerprint), None)
        if handle is not None:
            os.close(handle)

    @contextmanager
    def filling(self, stage: str, fingerprint: str) -> Iterator[None]:
        """In the block, no other process of this machine downloads files of this copy."""
        lock = self._lock(stage, fingerprint).with_suffix(".fill")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield

    def make_room(self, needed: int) -> None:
        """Removes copies that are not in use, those used least recently first, until `needed` more
        bytes fit. What is in use stays, even if there is no room then."""
        with _guard:
            _added[self.folder] = _added.get(self.folder, MAX_RESCAN) + needed
            enough = min(self.limit * RESCAN_SHARE, MAX_RESCAN)
            if _added[self.folder] < enough and self._free() > self.min_free + needed:
                return
            _added[self.folder] = 0
        copies = sorted(self.copies(), key=lambda copy: copy.used)
        total = sum(copy.size for copy in copies) + needed
        for copy in copies:
            if total <= self.limit and self._free() >= self.min_free + needed:
                return
            if self.remove(copy):
                total -= copy.size

    def remove(self, copy: Usage) -> bool:
        """Removes a copy unless a process uses it; returns whether it is removed."""
        copy.lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(copy.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if copy.folder.exists():
                # renamed first: it is never found in part, whenever this process is killed
                aside = copy.folder.with_name(f".{copy.folder.name}.00000000")
                shutil.rmtree(aside, ignore_errors=True)
                copy.folder.rename(aside)
                shutil.rmtree(aside)
        finally:
            os.close(handle)
        return True

    def copies(self) -> Iterator[Usage]:
        """Yields all copies."""
        for folder in self.folder.glob("*/*"):
            stage = folder.parent.name
            if stage in (LOCKS, "work") or folder.name.startswith(".") or not folder.is_dir():
                continue
            with suppress(FileNotFoundError):  # another process removes it
                yield self.usage(stage, folder.name)

    def usage(self, stage: str, fingerprint: str) -> Usage:
        folder, lock = self.path(stage, fingerprint), self._lock(stage, fingerprint)
        used = lock.stat().st_mtime if lock.exists() else 0.0
        size = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
        return Usage(folder, lock, size, used)

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _lock(self, stage: str, fingerprint: str) -> Path:
        return self.folder / LOCKS / f"{stage}-{fingerprint}.use"
