"""Sets of files that grow, on S3-compatible storage: samples.

A set has a list of its files, which is replaced on the condition that it is the one that was read:
a process that was stopped, and whose lease was taken over, adds nothing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core import store_record
from forkdiv.core.remote.cache import Cache
from forkdiv.core.remote.documents import PARTS, read_parts
from forkdiv.core.remote.downloads import Wanted, download
from forkdiv.core.remote.lease import LeaseLost
from forkdiv.core.remote.objects import Objects

IDENTITY = "identity.json"


@dataclass(frozen=True)
class Sets:
    """The sets below `objects.url`, with copies in `cache`."""

    objects: Objects
    cache: Cache

    def pull(self, stage: str, fingerprint: str) -> Path:
        """Copies those files of a set that grows to the cache that are not there; returns the
        folder, which may be empty or not exist."""
        folder, _, _ = self._pulled(stage, fingerprint)
        return folder

    def _pulled(
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
            self._download(stage, fingerprint, folder, missing)
            if content["identity"] is not None and not (folder / IDENTITY).exists():
                _write(folder / IDENTITY, content["identity"].encode())
        return folder, content, stored.etag

    def _download(
        self, stage: str, fingerprint: str, folder: Path, parts: Mapping[str, Any]
    ) -> None:
        asides = {name: folder / f".{uuid.uuid4().hex[:8]}.{name}" for name in parts}
        wanted = [
            Wanted(
                asides[name],
                f"{stage}/{fingerprint}/{part['upload']}/{name}",
                int(part["size"]),
                part["sha256"],
                float(part["written"]),
            )
            for name, part in parts.items()
        ]
        try:
            download(self.objects, self.cache, wanted)
            for name, aside in asides.items():
                aside.rename(folder / name)
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
        folder, content, etag = self._pulled(stage, fingerprint)
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


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    aside.write_bytes(data)
    aside.rename(path)
