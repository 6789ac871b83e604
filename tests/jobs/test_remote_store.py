"""`forkdiv store` on a real S3 server: what is damaged is named, and removed only if asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.remote import contents
from forkdiv.core.remote.objects import Objects
from forkdiv.core.store import Store, write_text
from jobs import store as job

ONE, TWO = (Identity("dataset", {"examples": n}) for n in (1, 2))
SAMPLES = Identity("samples", {"n": 1})


class Filled:
    """A store with two results and a set of samples in two files."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url, self.objects = root, url, Objects(url)
        self.settings = [f"place.root={root}", f"place.store={url}"]
        self.store = Store.of(load(None, self.settings).place)
        for identity in (ONE, TWO):
            self.store.obtain(identity, lambda path: write_text(path / "data.json", "[1, 2]"))
        with self.store.growing(SAMPLES, print) as growing:
            write_text(growing.path / "identity.json", "{}")
            for name in "ab":
                path = growing.path / f"part-{name}.parquet"
                path.write_text(name)
                growing.added(path)

    def run(self, action: str, remove: bool = False) -> None:
        job.run(load(None, self.settings), [Path(action)], remove)

    def key(self, end: str) -> str:
        (key,) = [one.key for one in self.objects.listed() if one.key.endswith(end)]
        return key


@pytest.fixture
def filled(tmp_path: Path, url: str) -> Filled:
    return Filled(tmp_path / "runs", url)


def test_what_the_storage_holds_is_listed_and_sound(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.run("ls")
    out = capsys.readouterr().out
    assert "dataset" in out and "samples" in out and "copies on this machine: 3" in out
    filled.run("verify")
    assert "3 results are as they were written" in capsys.readouterr().out
    filled.run("gc", remove=True)
    assert "nothing to remove from s3://" in capsys.readouterr().out


def test_what_is_damaged_is_named_and_removed(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = f"dataset/{ONE.fingerprint}"
    (data,) = [o.key for o in filled.objects.listed(damaged) if o.key.endswith("data.json")]
    filled.objects.put(data, b"[1, 3]")
    filled.objects.delete([filled.key("part-b.parquet")])
    with pytest.raises(InvalidResult, match="2 of 3 results are damaged; run `forkdiv store gc`"):
        filled.run("verify")
    out = capsys.readouterr().out
    assert f"in {filled.url}/{damaged}" in out and "data.json has changed" in out
    assert "part-b.parquet is missing" in out
    filled.run("gc")
    assert "would remove: dataset" in capsys.readouterr().out and filled.objects.listed(damaged)
    filled.run("gc", remove=True)
    out = capsys.readouterr().out
    assert "made again at its next use" in out and "its samples are drawn again" in out
    assert not filled.objects.listed(damaged)
    filled.run("verify")
    elsewhere = load(None, [*filled.settings, f"place.root={filled.root}2"]).place
    assert [p.name for p in Store.of(elsewhere).grown(SAMPLES).glob("part-*")] == ["part-a.parquet"]
    assert Store.of(elsewhere).find(ONE) is None and Store.of(elsewhere).find(TWO)


def test_what_killed_processes_left_is_removed_when_it_is_a_day_old(
    filled: Filled, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (filled.root / "half").write_text("half")
    half = f"train/{'0' * 32}/0123/half"
    filled.objects.upload({filled.root / "half": half})
    filled.objects.put(f"leases/train-{'0' * 32}.json", b"{}")
    filled.objects.put("notes.txt", b"mine")
    filled.run("gc", remove=True)
    assert "nothing to remove from s3://" in capsys.readouterr().out
    now = filled.objects.now()
    monkeypatch.setattr(Objects, "now", lambda self: now + 2 * 24 * 3600)
    filled.run("gc", remove=True)
    out = capsys.readouterr().out
    assert "an upload that was never finished (0 KiB)" in out and "1 leases of processes" in out
    left = [one.key for one in filled.objects.listed()]
    assert half not in left and "notes.txt" in left
    assert not any(key.startswith("leases/") for key in left)
    filled.run("verify")
    assert "notes.txt is not from forkdiv" in capsys.readouterr().out


def test_what_a_process_is_making_is_left_alone(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert filled.store.remote
    filled.objects.put(filled.key(f"{ONE.fingerprint}/record.json"), b"{")
    lease = filled.store.remote.new_lease("dataset", ONE.fingerprint)
    assert lease.acquire()
    filled.run("gc", remove=True)
    assert "in use, left alone: dataset" in capsys.readouterr().out
    assert filled.objects.read(f"dataset/{ONE.fingerprint}/record.json")
    lease.release()
    filled.run("gc", remove=True)
    assert contents.read(filled.store.remote).entries[0].fingerprint != ONE.fingerprint


def test_unfinished_work_of_this_machine_is_shown_and_removed(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    work = filled.store.workspace(Identity("train", {"n": 1}))
    os.truncate(_file(work / "state"), 100)
    filled.run("gc", remove=True)
    assert not work.exists() and "unfinished work" in capsys.readouterr().out
    assert filled.store.path(ONE).exists(), "copies are left to the cache"


def _file(path: Path) -> Path:
    path.touch()
    return path
