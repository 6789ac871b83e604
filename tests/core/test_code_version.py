"""Every record names the code that wrote it, also where there is no git repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from forkdiv.core import code_version
from forkdiv.core.code_version import (
    PACKAGE,
    commit,
    described,
    folder_ids,
    sources_digest,
    tree_id,
)

ROOT = PACKAGE.parent


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with folders whose names git sorts otherwise than Python."""
    folder = tmp_path / "code" / "forkdiv"
    for name in ("a/b.py", "a.py", "a-b/c.py", "Z.py", "ä.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return folder


def test_a_folder_has_the_id_that_git_gives_it(repository: Path) -> None:
    wanted = git(repository, "rev-parse", "HEAD:code/forkdiv")
    assert tree_id(repository).hex() == wanted
    (repository / "__pycache__").mkdir()
    (repository / "__pycache__" / "a.pyc").touch()
    assert tree_id(repository).hex() == wanted
    (repository / "a.py").write_text("changed")
    assert tree_id(repository).hex() != wanted


def test_the_sources_of_a_copy_have_the_same_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = sources_digest()
    for name in code_version.FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "forkdiv" / "notes.txt").touch()
    monkeypatch.setattr(code_version, "PACKAGE", tmp_path / "forkdiv")
    sources_digest.cache_clear()
    assert sources_digest() == here
    (tmp_path / "tuning" / "trial.py").write_text("")
    sources_digest.cache_clear()
    assert sources_digest() != here
    sources_digest.cache_clear()


def test_without_a_repository_the_code_is_named_by_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in code_version.FOLDERS:
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=leave)
    monkeypatch.setattr(code_version, "PACKAGE", tmp_path / "forkdiv")
    assert described(tmp_path) is None
    assert folder_ids().startswith("forkdiv:") and " tuning:" in folder_ids()
    commit.cache_clear()
    assert commit() == folder_ids()
    monkeypatch.setenv(code_version.COMMIT, "0123456789ab-dirty")
    commit.cache_clear()
    assert commit() == "0123456789ab-dirty"
    commit.cache_clear()
