"""Which code wrote a record: its git commit, or the ids that git gives to its folders."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
FOLDERS = ("forkdiv", "tuning")  # what decides results
COMMIT = "FORKDIV_COMMIT"  # `forkdiv submit` sets it: the code is sent without its git repository
SKIPPED = ("__pycache__",)


@cache
def commit() -> str | None:
    """Returns the git commit of this code, with `-dirty` if it was changed, as in
    `0123456789ab-dirty`. Outside git, as in a job's working directory or an installed wheel, it is
    `forkdiv:… tuning:…`, the ids of these folders: `git rev-parse COMMIT:forkdiv` prints the same
    id for the commit that has this code."""
    return os.environ.get(COMMIT) or described(PACKAGE) or folder_ids()


def described(folder: Path) -> str | None:
    """Returns the commit of the repository in which `folder` is; None outside git."""
    try:
        process = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() or None


def folder_ids() -> str:
    """Returns the ids that git gives to the folders of this code, shortened to 12 digits."""
    return " ".join(
        f"{name}:{tree_id(PACKAGE.parent / name).hex()[:12]}"
        for name in FOLDERS
        if (PACKAGE.parent / name).is_dir()
    )


@cache
def sources_digest() -> str:
    """Returns 12 digits that are equal where the Python files of this code are equal, whether they
    come from git, from a job's working directory or from a wheel."""
    digest = hashlib.sha256()
    for name in FOLDERS:
        folder = PACKAGE.parent / name
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(PACKAGE.parent).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def tree_id(folder: Path) -> bytes:
    """Returns the id of a folder as git computes it, for plain files that are not executable."""
    entries = []
    for path in folder.iterdir():
        if path.name in SKIPPED:
            continue
        if path.is_dir():
            # git sorts a folder as if its name ended with a slash
            entries.append((f"{path.name}/", b"40000", path.name, tree_id(path)))
        else:
            content = path.read_bytes()
            entries.append((path.name, b"100644", path.name, _id(b"blob", content)))
    lines = [
        mode + b" " + os.fsencode(name) + b"\0" + digest
        for _, mode, name, digest in sorted(entries, key=lambda entry: os.fsencode(entry[0]))
    ]
    return _id(b"tree", b"".join(lines))


def _id(kind: bytes, content: bytes) -> bytes:
    header = kind + b" " + str(len(content)).encode() + b"\0"
    return hashlib.sha1(header + content, usedforsecurity=False).digest()
