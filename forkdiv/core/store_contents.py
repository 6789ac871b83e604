"""What a store holds: results, sets of samples, unfinished work and leftovers; and what is damaged.

Nothing is removed while a process that makes it is alive: a build holds a kernel lock, the lease
of its result. Files that a process of this machine has open are left alone too.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from forkdiv.core import store_record
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import fingerprint_of
from forkdiv.core.store import lease_file
from forkdiv.core.store_record import RECORD, DamagedResult

WORK, LEASES = "work", "leases"
SAMPLES_RECORD = "identity.json"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_ASIDE = re.compile(r"\.([0-9a-f]{32})\.(?:[0-9a-f]{8}|download)")
CheckPart = Callable[[Path], int]  # number of samples; raises InvalidResult for a damaged file


class Kind(StrEnum):
    """What a folder or file of the store is."""

    RESULT = "result"  # published, with a record
    SAMPLES = "samples"  # a set that grows, in parts
    WORK = "unfinished work"  # from which a killed build resumes
    LEFTOVER = "leftover"  # of a killed process, of no use
    UNKNOWN = "unknown"  # not from forkdiv


@dataclass(frozen=True)
class Entry:
    """A folder or file of the store. `seconds` is what a result took to make, None if unknown;
    `has_digests` is False for results of versions that recorded the sizes of files only."""

    kind: Kind
    stage: str
    fingerprint: str
    path: Path
    size: int
    seconds: float | None = None
    has_digests: bool = True

    @property
    def name(self) -> str:
        return f"{self.stage} {self.fingerprint[:8]}".strip() or self.path.name


@dataclass(frozen=True)
class Damage:
    """A problem of an entry. `path` is what must be removed so that it is made again."""

    entry: Entry
    path: Path
    problem: str


@dataclass
class Contents:
    """The entries of a store; see `read`."""

    root: Path
    entries: list[Entry] = field(default_factory=list)

    def mean_seconds(self, stage: str) -> float | None:
        """Returns the mean time that results of a stage took; None if none is known."""
        known = [e.seconds for e in self.entries if e.stage == stage and e.seconds is not None]
        return sum(known) / len(known) if known else None

    @contextmanager
    def unused(self, entry: Entry) -> Iterator[bool]:
        """Yields whether no process makes this result or has a file of it open; until the end of
        the block no process can start to make it."""
        if not entry.fingerprint:
            yield not _is_open(entry.path)
            return
        lease = lease_file(self.root, entry.stage, entry.fingerprint)
        lease.parent.mkdir(parents=True, exist_ok=True)
        # a copy from S3-compatible storage is made under a lock of its own
        fill = lease.with_suffix(".fill")
        with ExitStack() as locks:
            try:
                for file in [lease, fill] if fill.exists() else [lease]:
                    locks.enter_context(FileLock(file, timeout=0))
            except Timeout:
                yield False
                return
            yield not _is_open(entry.path)


def read(root: Path) -> Contents:
    """Returns what the store at `root` holds, by stage. Records are read, other files are not."""
    contents = Contents(root)
    for stage in sorted(root.iterdir()) if root.is_dir() else ():
        if stage.name == LEASES:
            continue
        if not stage.is_dir():
            contents.entries.append(_entry(Kind.UNKNOWN, "", "", stage))
        elif stage.name == WORK:
            contents.entries += _work(root, stage)
        else:
            contents.entries += map(_of_stage, sorted(stage.iterdir()))
    return contents


def damages(entry: Entry, check_part: CheckPart) -> Iterator[Damage]:
    """Yields what is damaged in an entry, after reading all its files."""
    if entry.kind is Kind.RESULT:
        try:
            record = store_record.read(entry.path)
            store_record.check_files(entry.path, record, store_record.DIGEST_BYTES)
        except DamagedResult as error:
            where = error.path.relative_to(entry.path)
            yield Damage(entry, entry.path, f"{where} {error.problem}")
    elif entry.kind is Kind.SAMPLES:
        yield from _damages_of_samples(entry, check_part)


def remove(path: Path) -> None:
    """Removes a file or a folder. A folder is renamed first, so that it is never found in part."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    doomed = path.with_name(f".{path.name.strip('.')[:32]}.00000000")
    if doomed != path:
        if doomed.exists():
            shutil.rmtree(doomed)
        path = path.rename(doomed)
    shutil.rmtree(path)


def _damages_of_samples(entry: Entry, check_part: CheckPart) -> Iterator[Damage]:
    path = entry.path / SAMPLES_RECORD
    if path.exists():  # otherwise it is written at the next sampling
        try:
            _check_identity(path, entry)
        except DamagedResult as error:
            yield Damage(entry, path, f"{path.name} {error.problem}")
    for part in sorted(entry.path.iterdir()):
        if part == path or part.name.startswith("."):
            continue
        if not (part.name.startswith("part-") and part.suffix == ".parquet"):
            continue  # not ours: left alone
        try:
            check_part(part)
        except InvalidResult as error:
            problem = getattr(error, "problem", str(error))
            yield Damage(entry, part, f"{part.name} {problem}")


def _check_identity(path: Path, entry: Entry) -> None:
    with store_record.reading(path, entry.path):
        actual = fingerprint_of(store_record.read_json(path))
    if actual != entry.fingerprint:
        raise DamagedResult(path, entry.path, f"belongs to another set: {actual[:8]}")


def _of_stage(path: Path) -> Entry:
    stage = path.parent.name
    if match := _ASIDE.fullmatch(path.name):
        return _entry(Kind.LEFTOVER, stage, match.group(1), path)
    if not _FINGERPRINT.fullmatch(path.name) or not path.is_dir():
        return _entry(Kind.UNKNOWN, stage, "", path)
    if (path / RECORD).is_file():
        return _result(stage, path)
    has_parts = (path / SAMPLES_RECORD).exists() or any(path.glob("part-*.parquet"))
    return _entry(Kind.SAMPLES if has_parts else Kind.LEFTOVER, stage, path.name, path)


def _work(root: Path, folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.glob("*/*")):
        stage, fingerprint = path.parent.name, path.name
        if match := _ASIDE.fullmatch(fingerprint):
            yield _entry(Kind.LEFTOVER, stage, match.group(1), path)
            continue
        if not _FINGERPRINT.fullmatch(fingerprint):
            yield _entry(Kind.UNKNOWN, stage, "", path)
            continue
        is_done = (root / stage / fingerprint / RECORD).is_file()
        yield _entry(Kind.LEFTOVER if is_done else Kind.WORK, stage, fingerprint, path)


def _entry(kind: Kind, stage: str, fingerprint: str, path: Path) -> Entry:
    return Entry(kind, stage, fingerprint, path, size_of(path))


def _result(stage: str, path: Path) -> Entry:
    entry = _entry(Kind.RESULT, stage, path.name, path)
    try:
        record = store_record.read(path)
    except DamagedResult:  # `damages` reports it
        return entry
    return replace(entry, seconds=float(record["seconds"]), has_digests="digests" in record)


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files below a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def _is_open(path: Path) -> bool:
    """Returns whether a process of this machine has a file below `path` open or mapped, as far as
    this user may see."""
    inside = f"{path.resolve()}{os.sep}"
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            mapped = (process / "maps").read_text(errors="replace")
        except OSError:  # it ended, or is another user's
            continue
        if inside in mapped or any(f"{link}{os.sep}".startswith(inside) for link in links):
            return True
    return False
