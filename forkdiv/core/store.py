"""The artifact store: results are looked up by fingerprint, built under a lock and published
atomically, on a disk or on S3-compatible storage (`forkdiv.core.remote`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
from forkdiv.core.remote.artifacts import WEIGHTS, Remote
from forkdiv.core.remote.cache import Cache
from forkdiv.core.remote.objects import Objects
from forkdiv.core.store_record import DIGEST_BYTES, RECORD, DamagedResult

SPECIAL = ("%", "?", "#")
_ASIDE = re.compile(r"\.[0-9a-f]{32}\.[0-9a-f]{8}")  # of a build


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
class Growing:
    """The folder of a set of results to which this process adds files. A file that was written to
    `path` is visible to others when `added` was called with it."""

    path: Path
    added: Callable[[Path], None] = lambda file: None


@dataclass(frozen=True)
class Store:
    """Artifacts below `root`, shared by all studies, trials and processes that use it. With
    `remote` they are on S3-compatible storage, and `root` has copies of them."""

    root: Path
    remote: Remote | None = None

    @classmethod
    def of(cls, place: PlaceConfig) -> Store:
        """Returns the store of `place.store`, otherwise that in `place.root`."""
        if place.store is None:
            return cls(place.root / "store")
        name = place.store.removeprefix("s3://").strip("/").replace("/", "+")
        work = place.root / "cache" / name
        root = place.cache / name if place.cache else work
        cache = Cache(root, int(place.cache_gib * 2**30), place.min_free_mib * 2**20)
        return cls(root, Remote(Objects(place.store), cache, work))

    @classmethod
    def remote_of(cls, place: PlaceConfig) -> Store | None:
        """Returns the store of `place.store`, None if it is not set."""
        return cls.of(place) if place.store else None

    @property
    def work(self) -> Path:
        """The folder with what is not published yet, on this machine or shared by a cluster."""
        return self.remote.work if self.remote else self.root

    def has(self, identity: Identity) -> bool:
        """Whether the artifact is published, without reading or checking it."""
        if (self.path(identity) / RECORD).is_file():
            return True
        return bool(self.remote and self.remote.has(identity.stage, identity.fingerprint))

    def find(self, identity: Identity) -> Artifact | None:
        """Returns the published artifact, or None. Weights on S3-compatible storage are downloaded
        by `whole`, everything else now.

        Raises DamagedResult if its record is damaged, or a file is missing or has changed. Of large
        files only the size is compared: reading every checkpoint at each look-up would cost more
        than it is worth. `forkdiv store verify` reads everything.
        """
        if self.remote is None:
            return self._found(identity)
        stage, fingerprint = identity.stage, identity.fingerprint
        if not self.remote.pull(stage, fingerprint):
            return None
        try:
            return self._found(identity)
        except DamagedResult:
            if not self.remote.discard(stage, fingerprint):
                raise
            self.remote.pull(stage, fingerprint)
            return self._found(identity)

    def _found(self, identity: Identity) -> Artifact | None:
        path = self.path(identity)
        if not (path / RECORD).is_file():
            return None
        record = store_record.read(path)
        store_record.check_files(path, record, may_miss=WEIGHTS if self.remote else None)
        return Artifact(path, record)

    def whole(self, path: Path) -> Path:
        """Returns a folder or file of an artifact with its weights, or a path that is not in the
        store. Call it before weights are read: they may be on other storage only."""
        parts = self._parts_of(path)
        if self.remote and len(parts) >= 2:
            self.remote.pull(parts[0], parts[1], "/".join(parts[2:]))
        return path

    def present(self, path: Path) -> Path:
        """Returns a path of an artifact, on any machine, without its weights; see `whole`."""
        parts = self._parts_of(path)
        if self.remote and len(parts) >= 2:
            self.remote.pull(parts[0], parts[1])
        return path

    def _parts_of(self, path: Path) -> tuple[str, ...]:
        """Returns the parts of a path below the copies: stage, fingerprint and what is inside."""
        if self.remote is None:
            return ()
        for root, inside in ((self.root, path), (self.root.resolve(), path.resolve())):
            if inside.is_relative_to(root):
                parts = inside.relative_to(root).parts
                return () if parts[:1] in (("work",), ("leases",)) else parts
        return ()

    def unused(self, path: Path) -> None:
        """Says that this process reads no file of the artifact that has `path` any more."""
        parts = self._parts_of(path)
        if self.remote and len(parts) >= 2:
            self.remote.cache.release(parts[0], parts[1])

    @contextmanager
    def released(self) -> Iterator[None]:
        """At the end of the block, the copies that it needed may be removed from the cache."""
        with self.remote.cache.released() if self.remote else nullcontext():
            yield

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
    def growing(self, identity: Identity, on_wait: Callable[[str], None]) -> Iterator[Growing]:
        """Yields a folder to which one process at a time adds files atomically."""
        with self._lease(identity, on_wait) as check:
            if self.remote is None:
                self.path(identity).mkdir(parents=True, exist_ok=True)
                yield Growing(self.path(identity))
                return
            stage, fingerprint = identity.stage, identity.fingerprint
            self.remote.sweep(stage, fingerprint)
            with self.remote.sets.growing(stage, fingerprint, check) as (path, added):
                path.mkdir(parents=True, exist_ok=True)
                yield Growing(path, added)

    def grown(self, identity: Identity) -> Path:
        """Returns the folder of a set that grows, with the files it has now; it may not exist."""
        if self.remote is None:
            return self.path(identity)
        return self.remote.sets.pull(identity.stage, identity.fingerprint)

    def workspace(self, identity: Identity) -> Path:
        """Returns a folder that survives a killed process, for state that a build resumes from. It
        is never on S3-compatible storage."""
        path = self._workspace(identity)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _workspace(self, identity: Identity) -> Path:
        return self.work / "work" / identity.stage / identity.fingerprint

    def _build(self, identity: Identity, build: Callable[[Path], None]) -> Artifact:
        path = self.work / identity.stage / identity.fingerprint
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{path.name}.*"):  # no other process holds the lock
            if _ASIDE.fullmatch(stale.name):
                shutil.rmtree(stale)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
        aside.mkdir()
        started = time.time()
        try:
            build(aside)
            most = DIGEST_BYTES if self.remote is None else None
            record = store_record.make(identity, aside, started, most)
            record |= {"commit": commit(), "versions": versions()}
            if self.remote is None:
                self._publish(aside, path, record)
            else:
                self.remote.publish(identity.stage, identity.fingerprint, aside, record)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        shutil.rmtree(self._workspace(identity), ignore_errors=True)
        if self.remote is None:
            return Artifact(path, record)
        published = self.find(identity)
        assert published is not None
        return published

    def _publish(self, aside: Path, path: Path, record: dict[str, Any]) -> None:
        write_text(aside / RECORD, json.dumps(record, indent=1, sort_keys=True))
        if path.exists():  # without a record it is incomplete, and would block the rename
            shutil.rmtree(path)
        publish_folder(aside, path)

    def path(self, identity: Identity) -> Path:
        """Returns the folder of the artifact once it is published."""
        return self.root / identity.stage / identity.fingerprint

    @contextmanager
    def _lease(
        self, identity: Identity, on_wait: Callable[[str], None]
    ) -> Iterator[Callable[[], None]]:
        stage, fingerprint = identity.stage, identity.fingerprint
        leases = self.work / "leases"
        leases.mkdir(parents=True, exist_ok=True)
        # a kernel lock: it is released when its holder dies, however suddenly
        lock = FileLock(lease_file(self.work, stage, fingerprint))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait(_waiting(stage, fingerprint))
            lock.acquire()
        try:
            if self.remote is None:
                yield lambda: None
                return

            def on_wait_for(host: str) -> None:
                on_wait(_waiting(stage, fingerprint, f" on {host}" if host else ""))

            with self.remote.lease(stage, fingerprint, on_wait_for) as check:
                yield check
        finally:
            lock.release()


def _waiting(stage: str, fingerprint: str, where: str = "") -> str:
    return f"waiting for {stage} {fingerprint[:8]}, which another process{where} is computing"


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


def check_place(place: PlaceConfig, more_mib: int = 0) -> None:
    """Checks, before work, the folders and the storage that a command writes to; `more_mib` is
    needed beside place.min_free_mib.

    Raises UserError as `check_writable` does, and for object storage that cannot be used: no
    network, no bucket, wrong credentials, no conditional writes.
    """
    check_writable(place.root, place.min_free_mib + more_mib)
    store = Store.of(place)
    if store.remote:
        if place.cache:
            check_writable(place.cache, place.min_free_mib, "the cache folder", "place.cache")
        store.remote.objects.check()


def check_writable(
    root: Path,
    min_free_mib: int,
    what: str = "the output folder",
    setting: str = "place.root",
) -> None:
    """Raises UserError for an output folder that cannot be written or is nearly full, or whose name
    cannot be part of a URI: MLflow and Ray would use another folder. `what` and `setting` name it
    in messages."""
    if special := [character for character in SPECIAL if character in str(root)]:
        raise refuse(
            f"the path of {what} has the character {special[0]!r}",
            root,
            f"a path without {' '.join(SPECIAL)}, which have a meaning in the URIs of MLflow",
            f"set {setting} to another folder",
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
            f"{what} cannot be written",
            f"{root} ({error.strerror})",
            "a folder you have write permission for",
            f"set {setting} to another folder",
        ) from error
    if free < min_free_mib:
        raise refuse(
            f"{what} is nearly full",
            f"{free} MiB free at {root}",
            f"at least {min_free_mib} MiB (place.min_free_mib)",
            f"free some space, or set {setting} to a folder on another disk",
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
