"""A store on a real S3 server: as on a disk, for processes that share nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import forkdiv
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.remote.artifacts import Remote
from forkdiv.core.remote.cache import Cache
from forkdiv.core.remote.lease import LeaseLost
from forkdiv.core.remote.objects import Objects
from forkdiv.core.remote.storage_errors import StorageFailed
from forkdiv.core.store import Store
from tests.s3_server import S3Server
from tests.small_disk import small_disk

IDENTITY = Identity("train", {"examples": 3})
SAMPLES = Identity("samples", {"n": 1})
PATIENCE = 60.0
TTL = 3.0


def on_host(folder: Path, url: str, limit: int = 2**30) -> Store:
    """The store as a host sees it whose own folder is `folder`."""
    cache = Cache(folder, limit)
    return Store(folder, Remote(Objects(url, 20.0), cache, folder, TTL))


def checkpoint(folder: Path) -> None:
    (folder / "epoch-0001").mkdir()
    (folder / "epoch-0001" / "config.json").write_text("{}")
    (folder / "epoch-0001" / "model.safetensors").write_bytes(os.urandom(100_000))
    (folder / "log.jsonl").write_text("{}\n")


def unwanted(folder: Path) -> None:
    raise AssertionError(f"built again in {folder}")


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


LIGHT = ["epoch-0001/config.json", "log.jsonl", "record.json"]
WHOLE = ["epoch-0001/config.json", "epoch-0001/model.safetensors", "log.jsonl", "record.json"]

# One process that asks a store for an artifact: on_host(HOST), and what it says on stdout. It goes
# on when the file `go` is there.
ASKER = """
import sys, time
from pathlib import Path
from tests.core.remote.test_remote_store import IDENTITY, checkpoint, on_host

host, url, go = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
say = lambda *words: print(*words, flush=True)

def build(folder):
    say("building")
    while not go.exists():
        time.sleep(0.01)
    checkpoint(folder)

artifact = on_host(host, url).obtain(IDENTITY, build, lambda message: say("waiting:", message))
say("done", artifact.record["upload"])
"""


class Host:
    """A process on a host of its own, killed at the end of its test."""

    def __init__(self, folder: Path, url: str, go: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASKER, str(folder), url, str(go)],
            env={**os.environ, "PYTHONPATH": str(Path(forkdiv.__file__).parents[1])},
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, what: signal.Signals) -> None:
        self.process.send_signal(what)


@pytest.fixture
def ask(tmp_path: Path, url: str) -> Iterator[Callable[[str], Host]]:
    hosts: list[Host] = []

    def start(name: str) -> Host:
        hosts.append(Host(tmp_path / name, url, tmp_path / "go"))
        return hosts[-1]

    def end_all() -> None:
        for host in hosts:
            host.process.kill()

    watchdog = threading.Timer(PATIENCE, end_all)  # a hang ends the test
    watchdog.start()
    yield start
    watchdog.cancel()
    end_all()
    for host in hosts:
        host.process.wait()
        assert host.process.stdout is not None
        host.process.stdout.close()


def test_a_result_is_found_on_a_host_that_shares_nothing_else(tmp_path: Path, url: str) -> None:
    first, second = on_host(tmp_path / "a", url), on_host(tmp_path / "b", url)
    assert second.find(IDENTITY) is None
    made = first.obtain(IDENTITY, checkpoint)
    found = second.obtain(IDENTITY, unwanted)
    assert found.record == made.record and found.path == second.path(IDENTITY)
    assert files(made.path) == WHOLE
    assert made.record["digests"].keys() == made.record["files"].keys(), "all have a digest"


def test_weights_are_downloaded_when_they_are_read_and_not_before(tmp_path: Path, url: str) -> None:
    made = on_host(tmp_path / "a", url).obtain(IDENTITY, checkpoint)
    store = on_host(tmp_path / "b", url)
    found = store.find(IDENTITY)
    assert found and files(found.path) == LIGHT
    folder = found.path / "epoch-0001"
    assert store.whole(folder) == folder and files(found.path) == WHOLE
    name = "epoch-0001/model.safetensors"
    assert (found.path / name).read_bytes() == (made.path / name).read_bytes()
    assert (found.path / name).stat().st_mtime_ns == (made.path / name).stat().st_mtime_ns
    assert store.find(IDENTITY) == found
    other = tmp_path / "elsewhere"
    assert store.whole(other) == other and store.whole(store.root / "work" / "x" / "y")


def test_two_hosts_that_need_one_checkpoint_train_it_once(
    tmp_path: Path, ask: Callable[[str], Host]
) -> None:
    first = ask("a")
    assert first.says() == "building"
    second = ask("b")
    assert second.says().startswith("waiting: waiting for train ")
    time.sleep(2 * TTL)  # longer than a lease lasts that is not renewed
    (tmp_path / "go").touch()
    done = first.says()
    assert done.startswith("done ") and second.says() == done


def test_a_killed_holder_is_taken_over_by_another_host(
    tmp_path: Path, ask: Callable[[str], Host]
) -> None:
    first = ask("a")
    assert first.says() == "building"
    second = ask("b")
    assert second.says().startswith("waiting:")
    killed = time.monotonic()
    first.send(signal.SIGKILL)
    assert second.says() == "building"
    assert 0.5 * TTL < time.monotonic() - killed < 5 * TTL
    (tmp_path / "go").touch()
    assert second.says().startswith("done")


def test_a_killed_holder_of_the_same_folder_is_taken_over_at_once(
    tmp_path: Path, ask: Callable[[str], Host]
) -> None:
    first = ask("a")
    assert first.says() == "building"
    first.send(signal.SIGKILL)
    first.process.wait()
    began = time.monotonic()
    second = ask("a")
    assert second.says() == "building"
    assert time.monotonic() - began < 60, "it waits for nothing but its own imports"


def test_a_holder_that_was_stopped_and_taken_over_drops_its_own_result(
    tmp_path: Path, ask: Callable[[str], Host], url: str
) -> None:
    first = ask("a")
    assert first.says() == "building"
    second = ask("b")
    assert second.says().startswith("waiting:")
    first.send(signal.SIGSTOP)
    assert second.says() == "building"
    (tmp_path / "go").touch()
    done = second.says()
    first.send(signal.SIGCONT)
    assert first.says() == done, "the first has the result of the second"
    uploads = {one.key.split("/")[2] for one in Objects(url).listed("train/")}
    assert len(uploads - {"record.json"}) == 1, "its own upload is removed"


def test_a_build_that_fails_leaves_no_lease_and_nothing_to_find(tmp_path: Path, url: str) -> None:
    store = on_host(tmp_path, url)
    with pytest.raises(ValueError, match="broken"):
        store.obtain(IDENTITY, lambda folder: (_ for _ in ()).throw(ValueError("broken")))
    assert Objects(url).listed() == []
    store.obtain(IDENTITY, checkpoint)


def test_an_upload_that_is_not_complete_is_never_found_and_swept_when_it_is_old(
    tmp_path: Path, url: str
) -> None:
    store, objects = on_host(tmp_path / "a", url), Objects(url)
    (tmp_path / "file").write_text("half")
    half = f"train/{IDENTITY.fingerprint}/0123/epoch-0001/config.json"
    objects.upload({tmp_path / "file": half})
    assert store.find(IDENTITY) is None
    store.obtain(IDENTITY, checkpoint)
    assert half in [one.key for one in objects.listed()], "it may be another's that is alive"
    assert store.remote
    assert store.remote.sweep("train", IDENTITY.fingerprint, older_than_s=-60) == 4
    assert half not in [one.key for one in objects.listed()]
    assert store.whole(on_host(tmp_path / "b", url).obtain(IDENTITY, unwanted).path)


def test_an_upload_of_which_files_vanish_is_not_published(tmp_path: Path, url: str) -> None:
    store, objects = on_host(tmp_path, url), Objects(url)
    assert store.remote
    publish = store.remote.objects.upload

    class Vanishing(Objects):
        def upload(self, files: object) -> None:
            publish(files)  # type: ignore[arg-type]
            objects.delete(one.key for one in objects.listed("train/"))

    lossy = Store(tmp_path, Remote(Vanishing(url), store.remote.cache, tmp_path, TTL))
    with pytest.raises(StorageFailed, match="was not kept as it was uploaded"):
        lossy.obtain(IDENTITY, checkpoint)
    assert store.find(IDENTITY) is None


def test_a_download_with_other_bytes_is_refused(tmp_path: Path, url: str) -> None:
    made = on_host(tmp_path / "a", url).obtain(IDENTITY, checkpoint)
    name = "epoch-0001/model.safetensors"
    key = f"train/{IDENTITY.fingerprint}/{made.record['upload']}/{name}"
    Objects(url).put(key, b"x" * 100_000)
    store = on_host(tmp_path / "b", url)
    with pytest.raises(StorageFailed, match=rf"{key} is damaged: got SHA-256 .*store gc"):
        store.whole(store.path(IDENTITY))
    assert not (store.path(IDENTITY) / name).exists()


def test_a_copy_that_was_damaged_on_this_machine_is_downloaded_again(
    tmp_path: Path, url: str
) -> None:
    made = on_host(tmp_path, url).obtain(IDENTITY, checkpoint)
    (made.path / "log.jsonl").write_text("[")
    found = on_host(tmp_path, url).find(IDENTITY)
    assert found and (found.path / "log.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"files": {"../x": 1}}'])
def test_a_damaged_record_is_named(tmp_path: Path, url: str, content: bytes) -> None:
    Objects(url).put(f"train/{IDENTITY.fingerprint}/record.json", content)
    with pytest.raises(InvalidResult, match=r"record\.json is damaged .*store gc --remove"):
        on_host(tmp_path, url).find(IDENTITY)


def part(folder: Path, name: str) -> Path:
    path = folder / f"part-{name}.parquet"
    path.write_text(name)
    return path


def test_a_set_grows_on_one_host_and_goes_on_on_another(tmp_path: Path, url: str) -> None:
    first, second = on_host(tmp_path / "a", url), on_host(tmp_path / "b", url)
    assert not second.grown(SAMPLES).exists()
    with first.growing(SAMPLES, print) as growing:
        (growing.path / "identity.json").write_text("{}")
        growing.added(part(growing.path, "1"))
        assert files(second.grown(SAMPLES)) == ["identity.json", "part-1.parquet"]
        part(growing.path, "lost")  # the process is killed before it is published
    with second.growing(SAMPLES, print) as growing:
        growing.added(part(growing.path, "2"))
    both = ["identity.json", "part-1.parquet", "part-2.parquet"]
    with first.growing(SAMPLES, print) as growing:
        assert files(growing.path) == both, "what was not published is drawn again"
    written = [(store.grown(SAMPLES) / both[1]).stat().st_mtime for store in (first, second)]
    assert written[0] == pytest.approx(written[1], abs=1e-3)


def test_a_process_that_lost_its_lease_adds_nothing_to_a_set(tmp_path: Path, url: str) -> None:
    first, second = on_host(tmp_path / "a", url), on_host(tmp_path / "b", url)
    with first.growing(SAMPLES, print) as growing:
        growing.added(part(growing.path, "1"))
        # as if this process had been stopped, and the other had taken over meanwhile
        assert second.remote
        with second.remote.sets.growing("samples", SAMPLES.fingerprint, lambda: None) as (
            path,
            added,
        ):
            added(part(path, "2"))
        with pytest.raises(LeaseLost, match="run the same command again"):
            growing.added(part(growing.path, "3"))
    assert files(on_host(tmp_path / "c", url).grown(SAMPLES)) == [
        "part-1.parquet",
        "part-2.parquet",
    ]


def test_a_pause_of_the_storage_is_waited_for(tmp_path: Path, url: str, s3: S3Server) -> None:
    store = on_host(tmp_path, url)

    def build(folder: Path) -> None:
        checkpoint(folder)
        s3.pause()
        threading.Timer(2.0, s3.resume).start()

    store.obtain(IDENTITY, build)
    assert on_host(tmp_path / "b", url).find(IDENTITY)


def sized(kib: int) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / "data").write_bytes(os.urandom(kib * 1024))

    return build


def test_the_cache_removes_what_was_not_used_for_longest_and_never_what_is_in_use(
    tmp_path: Path, url: str
) -> None:
    maker, store = on_host(tmp_path / "a", url), on_host(tmp_path / "b", url, 250 * 1024)
    results = [Identity("dataset", {"examples": n}) for n in range(4)]
    for result in results:
        maker.obtain(result, sized(100))
    with store.released():
        store.find(results[0])
        store.find(results[1])
    os.utime(store.root / "leases" / f"dataset-{results[1].fingerprint}.use", (0, 0))
    store.find(results[2])
    kept = [store.path(result).exists() for result in results]
    assert kept == [True, False, True, False], "the second was used longest ago"
    store.find(results[3])
    kept = [store.path(result).exists() for result in results]
    assert kept == [False, False, True, True], "the third is in use"
    store.find(results[0])
    kept = [store.path(result).exists() for result in results]
    assert kept == [True, False, True, True], "all are in use: more than the limit is kept"


def test_a_copy_that_another_process_uses_stays(tmp_path: Path, url: str) -> None:
    store = on_host(tmp_path, url, limit=1)
    with store.released():
        store.obtain(IDENTITY, checkpoint)
    code = (
        "import sys; from pathlib import Path; "
        "from tests.core.remote.test_remote_store import IDENTITY, on_host; "
        "on_host(Path(sys.argv[1]), sys.argv[2]).find(IDENTITY); print(1, flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), url]
    root = str(Path(forkdiv.__file__).parents[1])
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": root},
    ) as reader:
        assert reader.stdout and reader.stdout.readline()
        store.obtain(Identity("dataset", {"examples": 1}), sized(1))
        assert store.path(IDENTITY).exists()
        reader.kill()
        reader.wait()
        store.obtain(Identity("dataset", {"examples": 2}), sized(1))
        assert not store.path(IDENTITY).exists(), "the lock of a dead process is released"


def test_a_cache_on_another_disk_gets_what_is_built_in_the_folder_of_the_study(
    tmp_path: Path, url: str
) -> None:
    with small_disk(tmp_path / "disk", kib=16 * 1024) as disk:
        remote = Remote(Objects(url), Cache(disk, 2**30), tmp_path, TTL)
        store, seen = Store(disk, remote), []

        def build(folder: Path) -> None:
            # hard links, as a training run makes them from its workspace
            (store.workspace(IDENTITY) / "weights").write_text("weights")
            os.link(store.workspace(IDENTITY) / "weights", folder / "w.safetensors")
            seen.append(folder)

        made = store.obtain(IDENTITY, build)
        assert seen[0].is_relative_to(tmp_path) and made.path.is_relative_to(disk)
        assert files(made.path) == ["record.json", "w.safetensors"]
        assert (
            not seen[0].exists() and not (tmp_path / "work/train" / IDENTITY.fingerprint).exists()
        )


def test_the_record_on_the_storage_is_that_of_the_copy(tmp_path: Path, url: str) -> None:
    made = on_host(tmp_path, url).obtain(IDENTITY, checkpoint)
    stored = Objects(url).read(f"train/{IDENTITY.fingerprint}/record.json")
    assert stored and json.loads(stored.data) == made.record
    assert stored.data == (made.path / "record.json").read_bytes()
