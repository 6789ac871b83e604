"""The artifact store: results are looked up by fingerprint, built under a lock and published
atomically."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from forkdiv.core import store_record
from forkdiv.core.code_version import commit
from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import Identity, library_version
from forkdiv.core.store_record import RECORD

SPECIAL = ("%", "?", "#")


@dataclass(frozen=True)
class Artifact:
    """A published folder and its record (identity, files, versions, times)."""

    path: Path
    record: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return str(self.record["fingerprint"])

    @property
    def seconds(self) -> float:
        """Wall time of the attempt that published it, without earlier attempts that were killed."""
        return float(self.record["seconds"])

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Yields the path of one of its files. What a parser raises in the block becomes a
        DamagedResult, which names the file."""
        with store_record.reading(self.path / name, self.path):
            yield self.path / name


@dataclass(frozen=True)
class Store:
    """A folder of artifacts, shared by all studies, trials and processes that use it."""

    root: Path

    @classmethod
    def of(cls, place: PlaceConfig) -> Store:
        """Returns the store in `place.root`."""
        return cls(place.root / "store")

    def find(self, identity: Identity) -> Artifact | None:
        """Returns the published artifact, or None.

        Raises DamagedResult if its record is damaged, or a file is missing or has changed. Of large
        files only the size is compared: reading every checkpoint at each look-up would cost more
        than it is worth. `forkdiv store verify` reads everything.
        """
        path = self.path(identity)
        if not (path / RECORD).is_file():
            return None
        record = store_record.read(path)
        store_record.check_files(path, record)
        return Artifact(path, record)

    def obtain(
        self,
        identity: Identity,
        build: Callable[[Path], None],
        on_wait: Callable[[str], None] = lambda message: None,
    ) -> Artifact:
        """Returns the artifact; if it does not exist, builds it with `build(folder)` and publishes
        it.

        If several processes need the same artifact, one of them builds it and the others wait.
        """
        if existing := self.find(identity):
            return existing
        with self._lease(identity, on_wait):
            return self.find(identity) or self._build(identity, build)

    @contextmanager
    def growing(self, identity: Identity, on_wait: Callable[[str], None]) -> Iterator[Path]:
        """Yields a folder to which one process at a time adds parts atomically."""
        path = self.path(identity)
        with self._lease(identity, on_wait):
            path.mkdir(parents=True, exist_ok=True)
            yield path

    def workspace(self, identity: Identity) -> Path:
        """Returns a folder that survives a killed process, for state that a build resumes from."""
        path = self.root / "work" / identity.stage / identity.fingerprint
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _build(self, identity: Identity, build: Callable[[Path], None]) -> Artifact:
        path = self.path(identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{path.name}.*"):  # no other process holds the lock
            shutil.rmtree(stale)
        if path.exists():  # without a record it is incomplete, and would block the rename
            shutil.rmtree(path)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
        aside.mkdir()
        started = time.time()
        try:
            build(aside)
            record = store_record.make(identity, aside, started)
            record |= {"commit": commit(), "versions": versions()}
            write_text(aside / RECORD, json.dumps(record, indent=1, sort_keys=True))
            publish_folder(aside, path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        shutil.rmtree(
            self.root / "work" / identity.stage / identity.fingerprint, ignore_errors=True
        )
        return Artifact(path, record)

    def path(self, identity: Identity) -> Path:
        """Returns the folder of the artifact once it is published."""
        return self.root / identity.stage / identity.fingerprint

    @contextmanager
    def _lease(self, identity: Identity, on_wait: Callable[[str], None]) -> Iterator[None]:
        leases = self.root / "leases"
        leases.mkdir(parents=True, exist_ok=True)
        # a kernel lock: it is released when its holder dies, however suddenly
        lock = FileLock(lease_file(self.root, identity.stage, identity.fingerprint))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            artifact = f"{identity.stage} {identity.fingerprint[:8]}"
            on_wait(f"waiting for {artifact}, which another process is computing")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def lease_file(root: Path, stage: str, fingerprint: str) -> Path:
    """Returns the file that a process locks while it makes this result or adds to it."""
    return root / "leases" / f"{stage}-{fingerprint}.lock"


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: after a crash the old or the new file is there, never a part."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        publish_file(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def publish_file(aside: Path, path: Path) -> None:
    """Syncs a finished file to disk and renames it atomically to `path`."""
    with aside.open("rb") as handle:
        os.fsync(handle.fileno())
    aside.rename(path)
    _sync_folder(path.parent)


def publish_folder(aside: Path, path: Path) -> None:
    """Syncs a finished folder to disk and renames it atomically to `path`."""
    for file in aside.rglob("*"):
        if file.is_dir():
            _sync_folder(file)
            continue
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    _sync_folder(aside)
    aside.rename(path)
    _sync_folder(path.parent)


def check_writable(root: Path, min_free_mib: int) -> None:
    """Raises UserError for an output folder that cannot be written or is nearly full, or whose name
    cannot be part of a URI: MLflow and Ray would use another folder."""
    if special := [character for character in SPECIAL if character in str(root)]:
        raise refuse(
            f"the path of the output folder has the character {special[0]!r}",
            root,
            f"a path without {' '.join(SPECIAL)}, which have a meaning in the URIs of MLflow",
            "set place.root to another folder",
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".probe-{uuid.uuid4().hex[:8]}"
        try:
            probe.write_bytes(b"forkdiv")
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(root).free // 2**20
    except OSError as error:
        raise refuse(
            "the output folder cannot be written",
            f"{root} ({error.strerror})",
            "a folder you have write permission for",
            "set place.root to another folder",
        ) from error
    if free < min_free_mib:
        raise refuse(
            "the output folder is nearly full",
            f"{free} MiB free at {root}",
            f"at least {min_free_mib} MiB (place.min_free_mib)",
            "free some space, or set place.root to a folder on another disk",
        )


@cache
def versions() -> dict[str, str]:
    """Returns the versions of the main libraries."""
    names = ("ray", "torch", "vllm", "deepspeed", "transformers", "datasets", "mlflow", "numpy")
    return {name: library_version(name) for name in names}


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
