"""Copies of checkpoints that another program may delete: small files, and hard links to weights.

Trainers delete their older checkpoints (save_total_limit). A hard link keeps the weights of one
that waits to be measured, without a copy; it is removed once they are measured. What is left, the
tokenizer and the fingerprint, is enough to find the results again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from forkdiv.core.errors import UserError
from forkdiv.core.store import write_text
from forkdiv.models.adapter.config import ADAPTER, has_adapter
from forkdiv.models.complete import STATE, model_files
from forkdiv.models.files import read_json
from forkdiv.models.saved import whole
from forkdiv.models.weights import INDEX
from forkdiv.models.written import COPIED, copy_small_files

RECORD = "watched.json"
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)


@dataclass(frozen=True)
class Watched:
    """What a snapshot is: its checkpoint's folder and number, the stamp of the weights when they
    were linked, and the fingerprint of its content, which is empty until it is measured."""

    name: str
    number: float
    source: str
    stamp: str
    fingerprint: str = ""


def take(source: Path, number: float, folder: Path) -> Watched:
    """Links and copies the checkpoint `source` to `folder`, which is made anew, and records what it
    is. Raises FileNotFoundError if the source is deleted meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    watched = Watched(source.name, number, str(source), stamp(source))
    try:
        copy_small_files(source, folder, (*COPIED, ADAPTER, INDEX, STATE))
        for file in model_files(source):
            _link(file.resolve(), folder / file.name)
        if not (folder / ADAPTER).exists() and has_adapter(source):
            raise FileNotFoundError(errno.ENOENT, "deleted", str(source / ADAPTER))
        write_text(folder / RECORD, json.dumps(asdict(watched), indent=1))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return watched


def add_tokenizer(folder: Path, base: Path) -> bool:
    """Gives a checkpoint without a tokenizer that of the base: trainers that are not given one save
    the model alone. Returns whether it did."""
    if (folder / "tokenizer.json").exists():
        return False
    kept = [name for name in COPIED if name not in ("config.json", "generation_config.json")]
    copy_small_files(base, folder, kept)
    return True


def release(folder: Path, fingerprint: str) -> None:
    """Removes the weights of a measured snapshot, and records its fingerprint."""
    watched = recorded(folder)
    assert watched, "a snapshot that `take` made"
    watched = replace(watched, fingerprint=fingerprint)
    write_text(folder / RECORD, json.dumps(asdict(watched), indent=1))
    for file in folder.rglob("*.safetensors"):
        file.unlink()


def recorded(folder: Path) -> Watched | None:
    """Returns what a snapshot is; None if it was not finished. Raises UserError for a record that
    cannot be read."""
    if not (folder / RECORD).is_file():
        return None
    content = read_json(folder / RECORD)
    return Watched(
        str(content["name"]),
        whole(float(content["number"])),
        str(content["source"]),
        str(content["stamp"]),
        str(content["fingerprint"]),
    )


def stamp(source: Path) -> str:
    """Returns size and time of change of the checkpoint's weight files; empty if it is gone."""
    try:
        stats = [(file.name, file.stat()) for file in model_files(source)]
    except (UserError, OSError):
        return ""
    return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def has_changed(watched: Watched) -> bool:
    """Returns whether the source was written again since it was measured."""
    now = stamp(Path(watched.source))
    return bool(now) and now != watched.stamp


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(file, target)  # another file system, or one without links
