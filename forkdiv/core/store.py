"""Content-addressed results: found by fingerprint, leased while made, published atomically."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.fingerprint import Identity, library_version

RECORD = "record.json"


@dataclass(frozen=True)
class Artifact:
    """A published folder and the record that says what it is."""

    path: Path
    record: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return str(self.record["fingerprint"])

    @property
    def seconds(self) -> float:
        """Wall time of the attempt that published it; work of killed ones is not in it."""
        return float(self.record["seconds"])


@dataclass(frozen=True)
class Store:
    """A folder of artifacts, shared by every study, trial and process that names it."""

    root: Path

    @classmethod
    def of(cls, place: PlaceConfig) -> Store:
        """The store of a place: the folder `store` in `place.root`."""
        return cls(place.root / "store")

    def find(self, identity: Identity) -> Artifact | None:
        """The published artifact, or None.

        Raises InvalidResult where a file is missing or has another size than when published;
        reading every byte of every checkpoint at every look would cost more than it finds.
        """
        path = self.path(identity)
        if not (path / RECORD).is_file():
            return None
        try:
            record = json.loads((path / RECORD).read_text())
        except ValueError as error:
            raise InvalidResult(
                f"{path / RECORD} is damaged ({error}); delete {path} to have it made again"
            ) from error
        for name, size in record["files"].items():
            found = (path / name).stat().st_size if (path / name).is_file() else None
            if found != size:
                raise InvalidResult(
                    f"{path / name} should have {size} bytes and has {found}; "
                    f"delete {path} to have it made again"
                )
        return Artifact(path, record)

    def obtain(
        self,
        identity: Identity,
        build: Callable[[Path], None],
        on_wait: Callable[[str], None] = lambda message: None,
    ) -> Artifact:
        """The artifact: found where it exists, else made by `build(folder)` and published.

        Of several processes that ask for one artifact, one builds and the others wait.
        """
        found = self.find(identity)
        if found:
            return found
        with self._lease(identity, on_wait):
            found = self.find(identity)
            if found:
                return found
            return self._make(identity, build)

    @contextmanager
    def growing(self, identity: Identity, on_wait: Callable[[str], None]) -> Iterator[Path]:
        """A folder that is added to in atomic parts, by one process at a time."""
        path = self.path(identity)
        with self._lease(identity, on_wait):
            path.mkdir(parents=True, exist_ok=True)
            yield path

    def workspace(self, identity: Identity) -> Path:
        """A folder that outlives a killed process, for what the build wants to resume from."""
        path = self.root / "work" / identity.stage / identity.fingerprint
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _make(self, identity: Identity, build: Callable[[Path], None]) -> Artifact:
        path = self.path(identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{path.name}.*"):  # ours alone: we hold the lease
            shutil.rmtree(stale)
        if path.exists():  # without its record it is nothing, and would be in the way
            shutil.rmtree(path)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
        aside.mkdir()
        started = time.time()
        try:
            build(aside)
            record = self._record(identity, aside, started)
            write_text(aside / RECORD, json.dumps(record, indent=1, sort_keys=True))
            publish_folder(aside, path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        shutil.rmtree(
            self.root / "work" / identity.stage / identity.fingerprint, ignore_errors=True
        )
        return Artifact(path, record)

    def _record(self, identity: Identity, folder: Path, started: float) -> dict[str, Any]:
        files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f != folder / RECORD]
        return {
            "fingerprint": identity.fingerprint,
            "identity": identity.describe(),
            "parents": dict(identity.parents),
            "files": {str(file.relative_to(folder)): file.stat().st_size for file in files},
            "started": started,
            "seconds": round(time.time() - started, 3),
            "commit": commit(),
            "versions": versions(),
        }

    def path(self, identity: Identity) -> Path:
        """Where the artifact lies once it is published."""
        return self.root / identity.stage / identity.fingerprint

    @contextmanager
    def _lease(self, identity: Identity, on_wait: Callable[[str], None]) -> Iterator[None]:
        leases = self.root / "leases"
        leases.mkdir(parents=True, exist_ok=True)
        # a kernel lock: the death of its holder, however sudden, sets it free
        lock = FileLock(leases / f"{identity.stage}-{identity.fingerprint}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait(f"waiting for {identity.stage} {identity.fingerprint[:8]}, made elsewhere")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        publish_file(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def publish_file(aside: Path, path: Path) -> None:
    """Make a finished file durable and give it its name in one step."""
    with aside.open("rb") as handle:
        os.fsync(handle.fileno())
    aside.rename(path)
    _sync_folder(path.parent)


def publish_folder(aside: Path, path: Path) -> None:
    """Make a finished folder durable and give it its name in one step."""
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
    """Refuse an output folder that cannot be written or is nearly full, before work starts."""
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
            "a folder you may write to",
            "set place.root to another one",
        ) from error
    if free < min_free_mib:
        raise refuse(
            "the output folder is nearly full",
            f"{free} MiB free at {root}",
            f"at least {min_free_mib} MiB (place.min_free_mib)",
            "free some room or set place.root to another disk",
        )


@cache
def commit() -> str | None:
    """The commit of this code, `-dirty` appended where it was changed; None outside git."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


@cache
def versions() -> dict[str, str]:
    """Releases of the libraries that carry the work."""
    names = ("ray", "torch", "vllm", "deepspeed", "transformers", "datasets", "mlflow", "numpy")
    return {name: library_version(name) for name in names}


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
