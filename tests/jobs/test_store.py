"""`forkdiv store`: what is damaged is named, and removed only if asked and not in use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from forkdiv.core import store_contents
from forkdiv.core.config.load import load
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Artifact, Store, lease_file, write_text
from forkdiv.core.store_contents import Kind
from forkdiv.sample import parts
from jobs import store as job
from tests.sample.test_parts import rows

ONE, TWO = (Identity("dataset", {"examples": n}) for n in (1, 2))
SAMPLES = Identity("samples", {"n": 1})


class Filled:
    """A store with two results, a set of samples in two files, and unfinished work."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, Store(root / "store")
        self.one, self.two = map(self.made, (ONE, TWO))
        self.set = self.store.path(SAMPLES)
        self.set.mkdir(parents=True)
        write_text(self.set / "identity.json", json.dumps(SAMPLES.describe()))
        self.parts = [parts.write(self.set, rows()[:16]), parts.write(self.set, rows()[16:])]

    def made(self, identity: Identity) -> Artifact:
        return self.store.obtain(identity, lambda path: write_text(path / "data.json", "[1, 2]"))

    def run(self, action: str, remove: bool = False) -> None:
        job.run(load(None, [f"place.root={self.root}"]), [Path(action)], remove)

    def kinds(self) -> list[str]:
        return [entry.kind.value for entry in store_contents.read(self.store.root).entries]


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return Filled(tmp_path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_sound_store_is_sound(filled: Filled, capsys: pytest.CaptureFixture[str]) -> None:
    filled.run("verify")
    assert "3 results are as they were written" in capsys.readouterr().out
    filled.run("gc", remove=True)
    assert capsys.readouterr().out == "nothing to remove\n"
    filled.run("ls")
    assert "samples" in capsys.readouterr().out


DAMAGE: dict[str, Callable[[Filled], object]] = {
    "a changed file": lambda filled: flip(filled.one.path / "data.json"),
    "a truncated file": lambda filled: (filled.one.path / "data.json").write_text("["),
    "a missing file": lambda filled: (filled.one.path / "data.json").unlink(),
    "an empty record": lambda filled: (filled.one.path / "record.json").write_text(""),
    "a record of another kind": lambda filled: (filled.one.path / "record.json").write_text("[]"),
    "a changed record": lambda filled: (filled.one.path / "record.json").write_text(
        (filled.one.path / "record.json").read_text().replace('"examples": 1', '"examples": 9')
    ),
    "the record of another result": lambda filled: shutil.copy(
        filled.two.path / "record.json", filled.one.path / "record.json"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_result_is_named_when_met_found_and_removed(
    filled: Filled, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGE[damage](filled)
    with pytest.raises(InvalidResult, match=rf"delete {filled.one.path} so that .*store verify"):
        filled.store.find(ONE)
    with pytest.raises(InvalidResult, match="1 of 3 results are damaged; run `forkdiv store gc`"):
        filled.run("verify")
    out = capsys.readouterr().out
    assert str(filled.one.path) in out and "made again at its next use, in less than a s" in out
    filled.run("gc")
    assert filled.one.path.exists() and "would remove: dataset" in capsys.readouterr().out
    filled.run("gc", remove=True)
    assert not filled.one.path.exists() and "1 removed" in capsys.readouterr().out
    filled.run("verify")
    assert filled.made(ONE).path == filled.one.path
    assert filled.store.find(TWO)


def test_only_the_damaged_file_of_a_set_of_samples_is_removed(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(filled.parts[0])
    filled.run("gc", remove=True)
    assert "its samples are drawn again; the other 1 files" in capsys.readouterr().out
    assert parts.files(filled.set) == [filled.parts[1]]


def test_what_killed_processes_left_is_removed_and_what_is_unknown_is_not(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    aside = filled.one.path.with_name(f".{filled.one.path.name}.0a0b0c0d")
    empty = filled.one.path.with_name("0" * 32)
    work = filled.store.workspace(Identity("train", {"n": 1}))
    done = filled.store.workspace(ONE)
    for folder in (aside, empty, filled.store.root / "dataset" / "mine"):
        folder.mkdir()
    (filled.store.root / "notes.txt").write_text("mine")
    assert sorted(filled.kinds()) == sorted(
        [*[Kind.RESULT] * 2, Kind.SAMPLES, *[Kind.LEFTOVER] * 3, Kind.WORK, *[Kind.UNKNOWN] * 2]
    )
    filled.run("gc", remove=True)
    assert not any(path.exists() for path in (aside, empty, work, done))
    assert sorted(set(filled.kinds())) == ["result", "samples", "unknown"]
    assert "train starts from its beginning" in capsys.readouterr().out


def test_what_a_process_is_making_is_left_alone(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = Identity("train", {"n": 1})
    work = filled.store.workspace(identity)
    with FileLock(lease_file(filled.store.root, "train", identity.fingerprint)):
        filled.run("gc", remove=True)
    assert work.exists() and f"in use, left alone: {work}" in capsys.readouterr().out


def test_what_a_process_has_open_is_left_alone(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(filled.one.path / "data.json")
    code = "import sys; f = open(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(filled.one.path / "data.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout and reader.stdout.readline()
        filled.run("gc", remove=True)
        assert "in use, left alone" in capsys.readouterr().out
        reader.communicate()
    filled.run("gc", remove=True)
    assert not filled.one.path.exists()


@pytest.mark.parametrize(
    ("actions", "remove", "part"),
    [
        ([], False, "got none; allowed: ls, verify, gc"),
        (["rm"], False, "got rm; allowed: ls, verify, gc"),
        (["ls", "gc"], False, "got ls gc"),
        (["verify"], True, "store verify removes nothing"),
    ],
)
def test_another_action_is_refused(
    tmp_path: Path, actions: list[str], remove: bool, part: str
) -> None:
    with pytest.raises(UserError, match=part):
        job.run(
            load(None, [f"place.root={tmp_path}"]), [Path(action) for action in actions], remove
        )


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no store"):
        job.run(load(None, [f"place.root={tmp_path}"]), [Path("ls")])
