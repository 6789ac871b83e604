"""Repositories of the hub: at a commit, from the cache, and every error in one line."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pytest
from huggingface_hub import _tree_cache, constants

from forkdiv.core import hub as hub_files
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.hub import open_repository
from forkdiv.core.hub_names import ModelName
from tests.hub_server import Hub

NAME = ModelName("org/name")
BIG = os.urandom(300_000)


def message(name: ModelName = NAME) -> str:
    with pytest.raises(UserError) as failed:
        open_repository("model", name).folder(["a.txt"])
    assert "\n" not in str(failed.value)
    return str(failed.value)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_branch_is_a_commit_and_the_commit_stays_when_the_branch_moves(hub: Hub) -> None:
    first = hub.repo("org/name").push({"a.txt": b"1"})
    opened = open_repository("model", NAME)
    second = hub.repo("org/name").push({"a.txt": b"2"})
    assert opened.commit == first
    assert (opened.folder(["a.txt"]) / "a.txt").read_bytes() == b"1"
    later = open_repository("model", NAME)
    assert later.commit == second
    assert (later.folder(["a.txt"]) / "a.txt").read_bytes() == b"2"
    pinned = open_repository("model", ModelName("org/name", first))
    assert (pinned.folder(["a.txt"]) / "a.txt").read_bytes() == b"1"


def test_only_the_files_that_are_asked_for_are_downloaded(hub: Hub) -> None:
    hub.repo("org/name").push({"a.txt": b"1", "b.txt": b"2", "sub/a.txt": b"3", "[x]*.txt": b"4"})
    opened = open_repository("model", NAME)
    assert opened.files == {"a.txt": 1, "b.txt": 1, "sub/a.txt": 1, "[x]*.txt": 1}
    folder = opened.folder(["a.txt", "[x]*.txt"])
    assert sorted(path.name for path in folder.rglob("*")) == ["[x]*.txt", "a.txt"]


def test_what_the_cache_has_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.repo("org/name").push({"a.txt": b"1"})
    open_repository("model", NAME).folder(["a.txt"])
    offline(monkeypatch)
    hub.requests.clear()
    for name in (NAME, ModelName("org/name", "main"), ModelName("org/name", commit)):
        opened = open_repository("model", name)
        assert opened.commit == commit
        assert (opened.folder(["a.txt"]) / "a.txt").read_bytes() == b"1"
    assert hub.requests == []


def test_a_cache_of_an_older_library_lists_the_files_that_it_has(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("org/name").push({"a.txt": b"1", "b.txt": b"2"})
    open_repository("model", NAME).folder(["a.txt"])
    for listing in hub_files.cache_folder().rglob("trees/*.json"):
        listing.unlink()
    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    offline(monkeypatch)
    assert open_repository("model", NAME).files == {"a.txt": 1}


def test_offline_without_the_files_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.repo("org/name").push({"a.txt": b"1", "b.txt": b"2"})
    offline(monkeypatch)
    text = message()
    assert "HF_HUB_OFFLINE=1, and it is not in the cache" in text
    assert "unset HF_HUB_OFFLINE" in text
    assert "it is not in the cache" in message(ModelName("org/name", commit))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    open_repository("model", NAME).folder(["b.txt"])
    offline(monkeypatch)
    assert "a part of it is in the cache" in message()


def test_a_hub_that_does_not_answer_is_refused_unless_the_cache_has_the_files(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("org/name").push({"a.txt": b"1"})
    open_repository("model", NAME).folder(["a.txt"])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    assert (open_repository("model", NAME).folder(["a.txt"]) / "a.txt").is_file()
    text = message(ModelName("org/other"))
    assert "no answer from http://127.0.0.1:9" in text
    assert "check the network" in text


def test_a_name_that_is_not_on_the_hub_is_refused_with_what_is_near(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "org/name is neither on this machine nor a model" in message()
    assert "set HF_TOKEN if it is private" in message()
    (tmp_path / "org/nama").mkdir(parents=True)
    assert message().endswith("did you mean org/nama, which is on this machine?")


def test_a_private_model_is_read_with_the_token_of_the_environment(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = hub.repo("org/name")
    repo.push({"a.txt": b"1"})
    repo.hidden, repo.tokens = True, {"hf_right"}
    assert "set HF_TOKEN if it is private" in message()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "on the Hugging Face Hub that this token may read" in message()
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert (open_repository("model", NAME).folder(["a.txt"]) / "a.txt").is_file()


def test_a_gated_model_is_refused_without_access(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = hub.repo("org/name")
    repo.push({"a.txt": b"1"})
    repo.gated, repo.tokens = True, {"hf_right"}
    text = message()
    assert "is gated" in text and "got no token" in text
    assert f"accept its terms at {hub.url}/org/name, and set HF_TOKEN" in text
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    text = message()
    assert "got a token whose account has no access to it" in text and "hf_wrong" not in text
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert (open_repository("model", NAME).folder(["a.txt"]) / "a.txt").is_file()


def test_a_revision_that_is_not_there_is_refused_with_those_that_are(hub: Hub) -> None:
    hub.repo("org/name").push({"a.txt": b"1"})
    hub.repo("org/name").push({"a.txt": b"2"}, branch="step-100")
    text = message(ModelName("org/name", "step-10"))
    assert "no revision of this name: got step-10" in text
    assert "a branch, a tag or a commit: step-100, main" in text
    assert "has no revision" in message(ModelName("org/name", "0" * 40))


@pytest.mark.parametrize(
    ("status", "remedy"), [(404, "check HF_ENDPOINT"), (429, "wait"), (418, "later")]
)
def test_other_refusals_say_what_to_do(hub: Hub, status: int, remedy: str) -> None:
    hub.repo("org/name").push({"a.txt": b"1"})
    hub.status = status
    text = message()
    assert remedy in text
    assert str(status) in text


def test_a_token_that_the_hub_does_not_know_is_refused(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("org/name").push({"a.txt": b"1"})
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.status, hub.message = 401, "Invalid credentials in Authorization header"
    text = message()
    assert "set HF_TOKEN to a valid token, or unset it" in text
    assert "hf_wrong" not in text


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("org/name").push({"big.bin": BIG})
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.break_after = 50_000
    folder = open_repository("model", NAME).folder(["big.bin"])
    assert (folder / "big.bin").read_bytes() == BIG
    assert hub.ranges == [f"bytes={start}-" for start in range(50_000, 300_000, 50_000)]


def test_after_a_broken_download_only_whole_files_are_there_and_the_others_follow(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("org/name").push({"a.txt": b"1", "big.bin": BIG})
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.break_after = 50_000  # below the size of a chunk: nothing arrives
    opened = open_repository("model", NAME)
    with pytest.raises(InvalidResult, match=r"was interrupted .* run the same command again"):
        opened.folder(["a.txt", "big.bin"])
    cache = hub_files.cache_folder()
    assert [path.name for path in cache.rglob("snapshots/*/*")] in (["a.txt"], [])
    opened.folder(["a.txt"])
    hub.break_after = None
    hub.requests.clear()
    assert (opened.folder(["a.txt", "big.bin"]) / "big.bin").read_bytes() == BIG
    assert [line for line in hub.requests if line.endswith("a.txt")] == []
    assert not list(cache.rglob("*.incomplete"))


def test_too_little_space_is_refused_before_the_download(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repo("org/name").push({"a.txt": BIG})
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "the disk has too little space for org/name" in message()
    assert not any("resolve" in line for line in hub.requests)


def test_a_disk_that_fills_up_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repo("org/name").push({"a.txt": b"1"})

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "blob")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(InvalidResult, match=r"the disk is full: downloading org/name .* HF_HOME"):
        open_repository("model", NAME).folder(["a.txt"])


def test_a_name_that_the_hub_cannot_have_is_refused(hub: Hub) -> None:
    assert "cannot be the name of a model" in message(ModelName("org/a--b"))


def test_a_listing_cannot_name_files_outside_its_folder(hub: Hub) -> None:
    hub.repo("org/name").push({"a.txt": b"1", "../b.txt": b"2", "/c.txt": b"3"})
    assert list(open_repository("model", NAME).files) == ["a.txt"]
