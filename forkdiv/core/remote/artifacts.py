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

from forkdiv.core.remote.cache import Cache
from forkdiv.core.remote.documents import PARTS, read_parts, read_record
from forkdiv.core.remote.downloads import Wanted, disk_errors, download
from forkdiv.core.remote.lease import POLL_S, TTL_S, Lease, holding
from forkdiv.core.remote.objects import Objects
from forkdiv.core.remote.sets import IDENTITY, Sets
from forkdiv.core.remote.storage_errors import StorageFailed
from forkdiv.core.store_record import RECORD

LEASES = "leases"
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

    @property
    def sets(self) -> Sets:
        """The sets that grow."""
        return Sets(self.objects, self.cache)

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
        self, stage: str, fingerprint: str, record: Mapping[str, Any], names: list[str], aside: Path
    ) -> None:
        """Downloads files of a result to a new folder."""
        prefix = f"{stage}/{fingerprint}/{record['upload']}"
        wanted = [
            Wanted(
                aside / name,
                f"{prefix}/{name}",
                int(record["files"][name]),
                record["digests"][name],
                record["started"],
            )
            for name in names
        ]
        aside.mkdir(parents=True)
        download(self.objects, self.cache, wanted)

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
                    with disk_errors(self.cache.folder):
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
