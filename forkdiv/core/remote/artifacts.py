"""Results on S3-compatible storage, and their copies on this machine.

    STAGE/FINGERPRINT/record.json            written last, on the condition that there is none
    STAGE/FINGERPRINT/UPLOAD/FILE            the files; the record names the upload they are in
    samples/FINGERPRINT/parts.json           the files of a set that grows, replaced on a condition
    leases/STAGE-FINGERPRINT.json

A result is visible once its record is there, whole, and only one process can write that. Uploads
that no record names are left by killed processes; they are removed when they are a day old.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core import store_record
from forkdiv.core.errors import InvalidResult
from forkdiv.core.remote.cache import Cache
from forkdiv.core.remote.lease import POLL_S, TTL_S, Lease, LeaseLost, holding
from forkdiv.core.remote.objects import Objects, StorageFailed
from forkdiv.core.store_record import RECORD

PARTS, IDENTITY, LEASES = "parts.json", "identity.json", "leases"
DOWNLOAD = "download"  # the end of the name of a copy that is being made
WEIGHTS = ".safetensors"  # files that are downloaded when a process reads them, not before
ABANDONED_S = 24 * 3600.0  # by the storage's clock
LEASE_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Remote:
    """The results below `objects.url`, with copies in `cache`. `work` is the folder, on this
    machine or shared by the nodes of a cluster, with what is not published yet."""

    objects: Objects
    cache: Cache
    work: Path
    ttl_s: float = TTL_S

    def has(self, stage: str, fingerprint: str) -> bool:
        """Whether a result is published."""
        return self.objects.read(f"{stage}/{fingerprint}/{RECORD}") is not None

    def pull(self, stage: str, fingerprint: str, inside: str | None = None) -> bool:
        """Copies a published result to the cache, weights only below the folder `inside` of it;
        returns False if it is not published. What is copied already is not copied again."""
        self.cache.use(stage, fingerprint)
        folder = self.cache.path(stage, fingerprint)
        if not (folder / RECORD).is_file() and not self._pull_new(stage, fingerprint):
            return False
        if inside is not None:
            self._pull_weights(stage, fingerprint, inside)
        return True

    def _pull_new(self, stage: str, fingerprint: str) -> bool:
        stored = self.objects.read(f"{stage}/{fingerprint}/{RECORD}")
        if stored is None:
            return False
        folder = self.cache.path(stage, fingerprint)
        with self.cache.filling(stage, fingerprint):
            if (folder / RECORD).is_file():
                return True
            record = read_record(stored.data, f"{self.objects.url}/{stage}/{fingerprint}")
            names = [name for name in record["files"] if not name.endswith(WEIGHTS)]
            aside = _aside(folder)
            try:
                self._download(stage, fingerprint, record, names, aside)
                (aside / RECORD).write_bytes(stored.data)
                if folder.exists():  # without a record: left by a killed process
                    shutil.rmtree(folder)
                aside.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return True

    def _pull_weights(self, stage: str, fingerprint: str, inside: str) -> None:
        folder = self.cache.path(stage, fingerprint)
        record = json.loads((folder / RECORD).read_bytes())
        below = f"{inside}/" if inside else ""

        def missing() -> list[str]:
            names = [n for n in record["files"] if n.startswith(below) and n.endswith(WEIGHTS)]
            return [name for name in names if not (folder / name).exists()]

        if not missing():
            return
        with self.cache.filling(stage, fingerprint):
            aside = _aside(folder)
            try:
                names = missing()
                self._download(stage, fingerprint, record, names, aside)
                for name in names:
                    (aside / name).rename(folder / name)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def _download(
        self,
        stage: str,
        fingerprint: str,
        record: Mapping[str, Any],
        names: list[str],
        aside: Path,
    ) -> None:
        """Downloads files of a result to a new folder, and compares them with their digests."""
        prefix = f"{stage}/{fingerprint}/{record['upload']}"
        self.cache.make_room(sum(int(record["files"][name]) for name in names))
        for name in [RECORD, *names]:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
        with _room(aside):
            self.objects.download({aside / name: f"{prefix}/{name}" for name in names})
        for name in names:
            self._verified(aside / name, f"{prefix}/{name}", record["digests"][name])
            # the same time on every machine: a changed time is taken for changed weights
            os.utime(aside / name, (record["started"], record["started"]))

    def _verified(self, file: Path, key: str, digest: str) -> None:
        if (actual := store_record.digest(file)) != digest:
            raise StorageFailed(
                f"{self.objects.url}/{key} is damaged: got SHA-256 {actual[:16]}; allowed: "
                f"{digest[:16]}, as published; run `forkdiv store gc --remove`, so that the "
                "result is made again"
            )

    def publish(self, stage: str, fingerprint: str, aside: Path, record: dict[str, Any]) -> None:
        """Uploads a finished folder and makes it visible; its copy is then in the cache. If another
        process has published the result meanwhile, the folder is dropped."""
        self.sweep(stage, fingerprint)
        upload = uuid.uuid4().hex
        prefix = f"{stage}/{fingerprint}/{upload}/"
        files = {aside / name: prefix + name for name in record["files"]}
        self.objects.upload(files)
        there = {one.key: one.size for one in self.objects.listed(prefix)}
        if gone := [key for file, key in files.items() if there.get(key) != file.stat().st_size]:
            raise StorageFailed(
                f"{self.objects.url}/{gone[0]} was not kept as it was uploaded (another program "
                "removes objects there?); run the same command again"
            )
        record |= {"upload": upload}
        data = json.dumps(record, indent=1, sort_keys=True).encode()
        if self.objects.create(f"{stage}/{fingerprint}/{RECORD}", data) is None:
            self.objects.delete(files.values())
            shutil.rmtree(aside)
            return
        (aside / RECORD).write_bytes(data)
        for name in record["files"]:
            os.utime(aside / name, (record["started"], record["started"]))
        self._keep(stage, fingerprint, aside, sum(record["files"].values()))

    def _keep(self, stage: str, fingerprint: str, aside: Path, size: int) -> None:
        """Moves a published folder into the cache."""
        self.cache.use(stage, fingerprint)
        self.cache.make_room(size)
        folder = self.cache.path(stage, fingerprint)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self.cache.filling(stage, fingerprint):
            if not folder.exists():
                if aside.stat().st_dev != folder.parent.stat().st_dev:
                    here = _aside(folder)
                    with _room(here):
                        shutil.copytree(aside, here)
                    here.rename(folder)
                else:
                    aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)

    def copy_records(self, folder: Path) -> None:
        """Copies the records of all results and sets to a new folder, as a store on a disk has
        them."""
        records: dict[Path, str] = {}
        for one in self.objects.listed():
            if one.key.count("/") == 2 and one.key.endswith((f"/{RECORD}", f"/{PARTS}")):
                records[folder / one.key] = one.key
        for path in records:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.objects.download(records)
        for path in folder.glob(f"*/*/{PARTS}"):
            content = read_parts(path.read_bytes(), f"{self.objects.url}/{path.parent.name}")
            if content["identity"] is not None:
                path.with_name(IDENTITY).write_text(content["identity"], encoding="utf-8")

    def discard(self, stage: str, fingerprint: str) -> bool:
        """Removes a copy from the cache, unless another process uses it; returns whether it is
        removed."""
        self.cache.release(stage, fingerprint)
        return self.cache.remove(self.cache.usage(stage, fingerprint))

    def sweep(
        self,
        stage: str,
        fingerprint: str,
        older_than_s: float = ABANDONED_S,
        remove: bool = True,
    ) -> int:
        """Removes uploads of a result that no record names and that are old; returns their size."""
        listed = self.objects.listed(f"{stage}/{fingerprint}/")
        if not any(one.key.count("/") > 2 for one in listed):
            return 0
        named = self._named(stage, fingerprint)
        old = self.objects.now() - older_than_s
        uploads: dict[str, list[Any]] = {}
        for one in listed:
            if one.key.count("/") > 2 and one.key not in named:
                uploads.setdefault(one.key.split("/")[2], []).append(one)
        gone = [
            one
            for files in uploads.values()
            if max(file.modified for file in files) < old
            for one in files
        ]
        if remove:
            self.objects.delete(one.key for one in gone)
        return sum(one.size for one in gone)

    def _named(self, stage: str, fingerprint: str) -> set[str]:
        """Returns the keys that the record or the list of parts names."""
        named: set[str] = set()
        prefix = f"{stage}/{fingerprint}"
        if stored := self.objects.read(f"{prefix}/{RECORD}"):
            record = read_record(stored.data, f"{self.objects.url}/{prefix}")
            named |= {f"{prefix}/{record['upload']}/{name}" for name in record["files"]}
        if stored := self.objects.read(f"{prefix}/{PARTS}"):
            parts = read_parts(stored.data, f"{self.objects.url}/{prefix}")["parts"]
            named |= {f"{prefix}/{part['upload']}/{name}" for name, part in parts.items()}
        return named

    def pull_parts(self, stage: str, fingerprint: str) -> Path:
        """Copies those files of a set that grows to the cache that are not there; returns the
        folder, which may be empty or not exist."""
        folder, _, _ = self._pulled_parts(stage, fingerprint)
        return folder

    def _pulled_parts(
        self, stage: str, fingerprint: str
    ) -> tuple[Path, dict[str, Any] | None, str | None]:
        self.cache.use(stage, fingerprint)
        folder = self.cache.path(stage, fingerprint)
        stored = self.objects.read(f"{stage}/{fingerprint}/{PARTS}")
        if stored is None:
            return folder, None, None
        content = read_parts(stored.data, f"{self.objects.url}/{stage}/{fingerprint}")
        with self.cache.filling(stage, fingerprint):
            missing = {
                name: part
                for name, part in content["parts"].items()
                if not (folder / name).exists()
            }
            self._download_parts(stage, fingerprint, folder, missing)
            if content["identity"] is not None and not (folder / IDENTITY).exists():
                _write(folder / IDENTITY, content["identity"].encode())
        return folder, content, stored.etag

    def _download_parts(
        self, stage: str, fingerprint: str, folder: Path, parts: Mapping[str, Any]
    ) -> None:
        if not parts:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.cache.make_room(sum(int(part["size"]) for part in parts.values()))
        asides = {name: folder / f".{uuid.uuid4().hex[:8]}.{name}" for name in parts}
        keys = {name: f"{stage}/{fingerprint}/{parts[name]['upload']}/{name}" for name in parts}
        try:
            with _room(folder):
                self.objects.download({asides[name]: keys[name] for name in parts})
            for name, part in parts.items():
                self._verified(asides[name], keys[name], part["sha256"])
                os.utime(asides[name], (part["written"], part["written"]))
                asides[name].rename(folder / name)
        finally:
            for aside in asides.values():
                aside.unlink(missing_ok=True)

    @contextmanager
    def growing(
        self, stage: str, fingerprint: str, check: Callable[[], None]
    ) -> Iterator[tuple[Path, Callable[[Path], None]]]:
        """Yields the folder of a set with all its files, and a function that publishes a file that
        was added to it. `check` raises LeaseLost; the caller holds the lease.

        Files that are not published are of a process that was killed meanwhile; they are removed.
        """
        self.sweep(stage, fingerprint)
        folder, content, etag = self._pulled_parts(stage, fingerprint)
        state = content or {"identity": None, "parts": {}}
        for file in folder.glob("part-*") if folder.exists() else ():
            if file.name not in state["parts"]:
                file.unlink()
        upload = uuid.uuid4().hex
        key = f"{stage}/{fingerprint}/{PARTS}"

        def publish(file: Path) -> None:
            nonlocal etag
            check()
            if (folder / IDENTITY).is_file():
                state["identity"] = (folder / IDENTITY).read_text(encoding="utf-8")
            self.objects.upload({file: f"{stage}/{fingerprint}/{upload}/{file.name}"})
            of_file = file.stat()
            state["parts"][file.name] = {
                "upload": upload,
                "size": of_file.st_size,
                "sha256": store_record.digest(file),
                "written": of_file.st_mtime,
            }
            self.cache.make_room(of_file.st_size)
            data = json.dumps({**state, "writer": upload}, sort_keys=True).encode()
            if etag is None:
                etag = self.objects.create(key, data)
            else:
                etag = self.objects.replace(key, data, etag)
            if etag is None:
                raise LeaseLost(
                    f"another process has added to {stage} {fingerprint[:8]} since this one "
                    "began; what was added is kept: run the same command again"
                )

        yield folder, publish

    @contextmanager
    def lease(
        self, stage: str, fingerprint: str, on_wait: Callable[[str], None]
    ) -> Iterator[Callable[[], None]]:
        """Holds the lease of a result in the block; yields a function that raises LeaseLost. The
        caller holds the kernel lock of this result in `work`."""
        held = self.new_lease(stage, fingerprint)
        poll_s = min(POLL_S, self.ttl_s / 10)
        with holding(held, on_wait, self.ttl_s, poll_s) as check:
            yield check

    def new_lease(self, stage: str, fingerprint: str) -> Lease:
        """Returns the lease of a result, which is not held yet."""
        quick = Objects(self.objects.url, min(LEASE_PATIENCE_S, self.ttl_s / 4))
        key = lease_key(stage, fingerprint)
        return Lease(quick, key, self._root_id(), self.ttl_s)

    def _root_id(self) -> str:
        """Returns a random id of the folder `work`, the same for all processes that use it."""
        path = self.work / LEASES / "id"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            aside = path.with_name(f".id.{uuid.uuid4().hex}")
            aside.write_text(uuid.uuid4().hex)
            try:
                os.link(aside, path)  # fails if another process was first
            except FileExistsError:
                pass
            finally:
                aside.unlink()
        return path.read_text()


def lease_key(stage: str, fingerprint: str) -> str:
    """Returns the key of the lease of a result."""
    return f"{LEASES}/{stage}-{fingerprint}.json"


def _aside(folder: Path) -> Path:
    """Returns the path at which a copy is made, free of what a killed process left there; the
    caller holds the lock `filling`."""
    aside = folder.with_name(f".{folder.name}.{DOWNLOAD}")
    shutil.rmtree(aside, ignore_errors=True)
    return aside


def read_record(data: bytes, where: str) -> dict[str, Any]:
    """Returns a record. Raises StorageFailed if it is damaged."""
    try:
        record: dict[str, Any] = json.loads(data)
        str(record["upload"]), float(record["started"]), dict(record["digests"])
        for name, size in record["files"].items():
            int(size), str(record["digests"][name])
            _check_inside(name)
    except store_record.PARSE_ERRORS as error:
        raise _damaged(f"{where}/{RECORD}", error) from error
    return record


def read_parts(data: bytes, where: str) -> dict[str, Any]:
    """Returns the list of files of a set. Raises StorageFailed if it is damaged."""
    try:
        content: dict[str, Any] = json.loads(data)
        if content["identity"] is not None:
            str(content["identity"])
        for name, part in content["parts"].items():
            int(part["size"]), float(part["written"]), str(part["sha256"]), str(part["upload"])
            _check_inside(name)
    except store_record.PARSE_ERRORS as error:
        raise _damaged(f"{where}/{PARTS}", error) from error
    return content


def _check_inside(name: str) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name[:80]} is outside the folder")


def _damaged(where: str, error: Exception) -> StorageFailed:
    text = " ".join(str(error).split())[:160]
    return StorageFailed(
        f"{where} is damaged ({type(error).__name__}: {text}); run `forkdiv store gc --remove`, so "
        "that the result is made again"
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    aside.write_bytes(data)
    aside.rename(path)


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Turns a full disk into an InvalidResult that says what to do."""
    try:
        yield
    except OSError as error:
        raise InvalidResult(
            f"files cannot be written to the cache {folder.parent}: {error.strerror or error}; "
            "make room on its disk, lower place.cache_gib, or set place.cache to another disk"
        ) from error
