"""What S3-compatible storage holds of a store: results, sets of samples, uploads that no record
names, leases; and what is damaged.

Nothing is removed while a process makes it: its lease is taken first, and uploads that no record
names are removed only when they are old by the storage's clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from forkdiv.core.fingerprint import fingerprint_of
from forkdiv.core.remote.artifacts import (
    ABANDONED_S,
    LEASES,
    Remote,
    lease_key,
)
from forkdiv.core.remote.documents import PARTS, read_parts, read_record
from forkdiv.core.remote.objects import Listed, Objects
from forkdiv.core.remote.storage_errors import StorageFailed
from forkdiv.core.store_contents import Kind
from forkdiv.core.store_record import RECORD


@dataclass(frozen=True)
class RemoteEntry:
    """A result, a set of samples, or what is left of one, with its objects."""

    kind: Kind
    stage: str
    fingerprint: str
    objects: tuple[Listed, ...]

    @property
    def size(self) -> int:
        return sum(one.size for one in self.objects)

    @property
    def name(self) -> str:
        return f"{self.stage} {self.fingerprint[:8]}".strip()

    @property
    def prefix(self) -> str:
        return f"{self.stage}/{self.fingerprint}"


@dataclass(frozen=True)
class RemoteDamage:
    """A problem of an entry. `part` is the file of a set of samples that is damaged, None if the
    whole entry must be removed so that it is made again."""

    entry: RemoteEntry
    problem: str
    part: str | None = None


@dataclass(frozen=True)
class RemoteContents:
    """The objects of a store; see `read`."""

    remote: Remote
    entries: tuple[RemoteEntry, ...]
    leases: tuple[Listed, ...]

    @property
    def objects(self) -> Objects:
        return self.remote.objects

    def damages(self) -> Iterator[RemoteDamage]:
        """Yields what is damaged, after reading all files of results and sets."""
        for entry in self.entries:
            if entry.kind is Kind.RESULT:
                yield from self._of_result(entry)
            elif entry.kind is Kind.SAMPLES:
                yield from self._of_set(entry)

    def _of_result(self, entry: RemoteEntry) -> Iterator[RemoteDamage]:
        stored = self.objects.read(f"{entry.prefix}/{RECORD}")
        if stored is None:
            return  # removed meanwhile
        try:
            record = read_record(stored.data, entry.prefix)
            actual = fingerprint_of(record["identity"])
        except (StorageFailed, KeyError) as error:
            yield RemoteDamage(entry, str(error).partition("; run")[0])
            return
        if actual != entry.fingerprint or record["identity"].get("stage") != entry.stage:
            yield RemoteDamage(entry, f"{RECORD} belongs to another result: {actual[:8]}")
            return
        for name in record["files"]:
            key = f"{entry.prefix}/{record['upload']}/{name}"
            if problem := self._problem(key, record["digests"][name]):
                yield RemoteDamage(entry, f"{name} {problem}")
                return

    def _of_set(self, entry: RemoteEntry) -> Iterator[RemoteDamage]:
        stored = self.objects.read(f"{entry.prefix}/{PARTS}")
        if stored is None:
            return
        try:
            parts = read_parts(stored.data, entry.prefix)["parts"]
        except StorageFailed as error:
            yield RemoteDamage(entry, str(error).partition("; run")[0])
            return
        for name, part in parts.items():
            key = f"{entry.prefix}/{part['upload']}/{name}"
            if problem := self._problem(key, part["sha256"]):
                yield RemoteDamage(entry, f"{name} {problem}", name)

    def _problem(self, key: str, digest: str) -> str | None:
        actual = self.objects.digest(key)
        if actual is None:
            return "is missing"
        return None if actual == digest else "has changed since it was published"

    def remove(self, damage: RemoteDamage) -> bool:
        """Removes what is damaged; returns False if a process is making it."""
        entry = damage.entry
        with self._held(entry) as held:
            if held and damage.part is None:
                # the record first: what is left is never found as a result
                first = [f"{entry.prefix}/{RECORD}", f"{entry.prefix}/{PARTS}"]
                self.objects.delete(first)
                self.objects.delete(o.key for o in entry.objects if o.key not in first)
            elif held:
                self._drop_part(entry, str(damage.part))
        return held

    def _drop_part(self, entry: RemoteEntry, part: str) -> None:
        key = f"{entry.prefix}/{PARTS}"
        stored = self.objects.read(key)
        if stored is None:
            return
        content: dict[str, Any] = read_parts(stored.data, entry.prefix)
        dropped = content["parts"].pop(part, None)
        data = json.dumps(content, sort_keys=True).encode()
        if self.objects.replace(key, data, stored.etag) and dropped:
            self.objects.delete([f"{entry.prefix}/{dropped['upload']}/{part}"])

    def abandoned(self) -> Iterator[tuple[RemoteEntry, int]]:
        """Yields the entries with uploads that no record names and that are old, and their size."""
        old = self.objects.now() - ABANDONED_S
        for entry in self.entries:
            uploads = {one.key.split("/")[2] for one in entry.objects if one.key.count("/") > 2}
            is_plain = entry.kind is Kind.RESULT and len(uploads) <= 1
            if entry.kind is Kind.UNKNOWN or is_plain or not uploads:
                continue
            files = [one for one in entry.objects if one.key.count("/") > 2 and one.modified < old]
            if not files:
                continue
            if size := self.remote.sweep(entry.stage, entry.fingerprint, remove=False):
                yield entry, size

    def sweep(self, entry: RemoteEntry) -> int:
        """Removes uploads of an entry that no record names and that are old; returns their size."""
        return self.remote.sweep(entry.stage, entry.fingerprint)

    def dead_leases(self) -> list[str]:
        """Returns the keys of leases and probes that were not renewed for a day."""
        old = self.objects.now() - ABANDONED_S
        return [lease.key for lease in self.leases if lease.modified < old]

    def dead_uploads(self) -> list[tuple[str, str]]:
        """Returns key and id of uploads in parts that were begun and not completed in a day."""
        old = self.objects.now() - ABANDONED_S
        return [(key, id) for key, id, began in self.objects.unfinished_uploads() if began < old]

    @contextmanager
    def _held(self, entry: RemoteEntry) -> Iterator[bool]:
        """Yields whether the lease of an entry could be taken, without waiting for it."""
        key = lease_key(entry.stage, entry.fingerprint)
        lease = self.remote.new_lease(entry.stage, entry.fingerprint)
        # another process of this machine may have it: only a lease that does not exist is taken
        held = self.objects.read(key) is None and lease.acquire()
        try:
            yield held
        finally:
            if held:
                lease.release()


def read(remote: Remote) -> RemoteContents:
    """Returns what the storage holds, from one listing."""
    groups: dict[tuple[str, ...], list[Listed]] = {}
    leases: list[Listed] = []
    for one in remote.objects.listed():
        parts = one.key.split("/")
        if parts[0] == LEASES:
            leases.append(one)
            continue
        is_ours = len(parts) > 2 and len(parts[1]) == 32
        groups.setdefault(tuple(parts[:2]) if is_ours else (one.key,), []).append(one)
    entries = [_entry(group, tuple(objects)) for group, objects in groups.items()]
    return RemoteContents(remote, tuple(entries), tuple(leases))


def _entry(group: tuple[str, ...], objects: tuple[Listed, ...]) -> RemoteEntry:
    if len(group) == 1:
        return RemoteEntry(Kind.UNKNOWN, "", group[0], objects)
    names = {one.key.split("/", 2)[2] for one in objects}
    kind = Kind.RESULT if RECORD in names else Kind.SAMPLES if PARTS in names else Kind.LEFTOVER
    return RemoteEntry(kind, group[0], group[1], objects)
