"""Artifacts: made once, published whole or not at all, whoever is killed and whenever."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import forkdiv
from forkdiv.core.code_version import commit
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store, check_writable, publish_folder, write_text
from tests.small_disk import small_disk

IDENTITY = Identity("dataset", {"examples": 3})
PATIENCE = 30.0

# One process that asks a store for an artifact. It says what it does on stdout, writes half of
# its files, and goes on when the file `go` is there.
ASKER = """
import sys, time
from pathlib import Path
from forkdiv.core.store import Store
from forkdiv.core.fingerprint import Identity

root, examples = Path(sys.argv[1]), int(sys.argv[2])
say = lambda *words: print(*words, flush=True)
store, identity = Store(root / "store"), Identity("dataset", {"examples": examples})

def build(folder):
    with (root / "builds").open("a") as file:
        file.write("one\\n")
    (folder / "first").write_text("first")
    (store.workspace(identity) / "half").write_text("half")
    say("building")
    while not (root / "go").exists():
        time.sleep(0.01)
    (folder / "second").write_text("second")

artifact = store.obtain(identity, build, lambda message: say("waiting:", message))
say("done", artifact.path)
"""


class Asker:
    """A process that runs ASKER, killed at the end of its test."""

    def __init__(self, root: Path, examples: int = 3) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASKER, str(root), str(examples)],
            env={**os.environ, "PYTHONPATH": str(Path(forkdiv.__file__).parents[1])},
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        """Its next line, "" at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[..., Asker]]:
    askers: list[Asker] = []

    def start(examples: int = 3) -> Asker:
        askers.append(Asker(tmp_path, examples))
        return askers[-1]

    # a hang shows up as a killed process with nothing left to say, not as a test without end
    def end_all() -> None:
        for asker in askers:
            asker.process.kill()

    watchdog = threading.Timer(PATIENCE, end_all)
    watchdog.start()
    yield start
    watchdog.cancel()
    for asker in askers:
        asker.kill()
        assert asker.process.stdout is not None
        asker.process.stdout.close()


def two_files(folder: Path) -> None:
    (folder / "one.txt").write_text("one")
    (folder / "sub").mkdir()
    (folder / "sub" / "two.txt").write_text("two two")


def unwanted(folder: Path) -> None:
    raise AssertionError(f"built again in {folder}")


def everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_artifact_is_found_after_it_was_made_and_not_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(IDENTITY) is None
    made = store.obtain(IDENTITY, two_files)
    assert store.find(IDENTITY) == made
    assert made.path == tmp_path / "dataset" / IDENTITY.fingerprint
    assert (made.path / "sub" / "two.txt").read_text() == "two two"


def test_a_second_process_finds_what_the_first_published(tmp_path: Path) -> None:
    Store(tmp_path).obtain(IDENTITY, two_files)
    assert Store(tmp_path).obtain(IDENTITY, unwanted).fingerprint == IDENTITY.fingerprint


def test_the_record_says_what_the_folder_holds_and_follows_from(tmp_path: Path) -> None:
    identity = Identity("exact", {"a": 0.5}, {"checkpoint": "abc"})
    started = time.time()
    made = Store(tmp_path).obtain(identity, two_files)
    record = json.loads((made.path / "record.json").read_text())
    assert record == made.record
    assert record["files"] == {"one.txt": 3, "sub/two.txt": 7}
    assert record["fingerprint"] == identity.fingerprint
    assert record["identity"] == identity.describe()
    assert record["parents"] == {"checkpoint": "abc"}
    assert record["versions"]["torch"] and record["commit"] == commit()
    assert started - 1 <= record["started"] <= time.time() and 0 <= made.seconds < PATIENCE


def test_other_inputs_are_another_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.obtain(IDENTITY, two_files)
    assert store.find(Identity("dataset", {"examples": 4})) is None


def test_an_artifact_is_not_found_while_it_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seen: list[object] = []

    def build(folder: Path) -> None:
        two_files(folder)
        seen.append(store.find(IDENTITY))

    store.obtain(IDENTITY, build)
    assert seen == [None]


def test_a_build_killed_halfway_leaves_nothing_to_find(
    tmp_path: Path, ask: Callable[..., Asker]
) -> None:
    first = ask()
    assert first.says() == "building"
    first.kill()
    store = Store(tmp_path / "store")
    (aside,) = (store.root / "dataset").iterdir()
    assert everything(aside) == ["first"]
    assert store.find(IDENTITY) is None

    made = store.obtain(IDENTITY, two_files)
    assert everything(made.path.parent) == [IDENTITY.fingerprint], "the aside folder is left"
    assert everything(made.path) == ["one.txt", "record.json", "sub"]


def test_the_workspace_of_a_killed_build_is_there_for_the_next(
    tmp_path: Path, ask: Callable[..., Asker]
) -> None:
    first = ask()
    assert first.says() == "building"
    first.kill()
    store, leftovers = Store(tmp_path / "store"), []

    def build(folder: Path) -> None:
        leftovers.extend(everything(store.workspace(IDENTITY)))
        two_files(folder)

    store.obtain(IDENTITY, build)
    assert leftovers == ["half"]


def test_two_processes_asking_for_one_artifact_build_it_once(
    tmp_path: Path, ask: Callable[..., Asker]
) -> None:
    first = ask()
    assert first.says() == "building"
    second = ask()
    artifact = f"dataset {IDENTITY.fingerprint[:8]}"
    message = second.says()
    assert message == f"waiting: waiting for {artifact}, which another process is computing"
    (tmp_path / "go").touch()
    path = tmp_path / "store" / "dataset" / IDENTITY.fingerprint
    assert first.says() == second.says() == f"done {path}"
    assert (tmp_path / "builds").read_text() == "one\n"
    assert (first.process.wait(), second.process.wait()) == (0, 0)


def test_processes_that_start_together_build_once(
    tmp_path: Path, ask: Callable[..., Asker]
) -> None:
    (tmp_path / "go").touch()
    askers = [ask() for _ in range(3)]
    printed = [asker.process.communicate()[0] for asker in askers]
    assert [asker.process.returncode for asker in askers] == [0, 0, 0]
    assert sum(text.count("building") for text in printed) == 1
    assert all("done" in text for text in printed)


def test_the_death_of_a_builder_lets_the_waiter_build(
    tmp_path: Path, ask: Callable[..., Asker]
) -> None:
    first = ask()
    assert first.says() == "building"
    second = ask()
    assert second.says().startswith("waiting:")
    first.kill()
    assert second.says() == "building"
    (tmp_path / "go").touch()
    assert second.says().startswith("done")
    assert everything(tmp_path / "store" / "dataset") == [IDENTITY.fingerprint]


def test_different_artifacts_do_not_wait_for_each_other(
    tmp_path: Path, ask: Callable[..., Asker]
) -> None:
    assert ask(3).says() == "building"
    assert ask(4).says() == "building"


def test_threads_of_one_process_build_once(tmp_path: Path) -> None:
    store, builds, waits = Store(tmp_path), [], []
    inside, go = threading.Event(), threading.Event()

    def build(folder: Path) -> None:
        builds.append(folder)
        inside.set()
        assert go.wait(PATIENCE)

    def on_wait(message: str) -> None:
        waits.append(message)
        go.set()

    first = threading.Thread(target=store.obtain, args=(IDENTITY, build))
    first.start()
    assert inside.wait(PATIENCE)
    store.obtain(IDENTITY, build, on_wait)
    first.join(PATIENCE)
    assert (len(builds), len(waits)) == (1, 1)


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_a_failing_build_raises_and_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    store = Store(tmp_path)

    def build(folder: Path) -> None:
        two_files(folder)
        raise error

    with pytest.raises(type(error)) as caught:
        store.obtain(IDENTITY, build)
    assert caught.value is error
    assert store.find(IDENTITY) is None
    assert everything(tmp_path / "dataset") == []
    assert store.obtain(IDENTITY, two_files).path.is_dir(), "the lease is still held"


def test_a_workspace_survives_a_failure_and_is_removed_on_success(tmp_path: Path) -> None:
    store, leftovers = Store(tmp_path), []

    def fails(folder: Path) -> None:
        (store.workspace(IDENTITY) / "step-1").touch()
        raise RuntimeError("killed")

    def resumes(folder: Path) -> None:
        leftovers.extend(everything(store.workspace(IDENTITY)))

    with pytest.raises(RuntimeError):
        store.obtain(IDENTITY, fails)
    store.obtain(IDENTITY, resumes)
    assert leftovers == ["step-1"]
    assert everything(tmp_path / "work" / "dataset") == []


@pytest.mark.parametrize("name", ["one.txt", "sub/two.txt"])
def test_a_damaged_file_is_reported_with_its_path_and_remedy(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    path = store.obtain(IDENTITY, two_files).path
    (path / name).write_text("")
    with pytest.raises(InvalidResult, match=r"has 0 bytes; .*delete .* computed again") as caught:
        store.obtain(IDENTITY, unwanted)
    assert str(path / name) in str(caught.value)
    (path / name).unlink()
    with pytest.raises(InvalidResult, match="is missing"):
        store.find(IDENTITY)


def test_deleting_a_damaged_artifact_has_it_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shutil.rmtree(store.obtain(IDENTITY, two_files).path)
    assert (store.obtain(IDENTITY, two_files).path / "one.txt").read_text() == "one"


def test_publishing_onto_a_folder_with_content_overwrites_nothing(tmp_path: Path) -> None:
    aside, path = tmp_path / "aside", tmp_path / "path"
    for folder in (aside, path):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    with pytest.raises(OSError, match="not empty"):
        publish_folder(aside, path)
    assert (path / "name").read_text() == "path"


def test_writing_text_replaces_a_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_text(path, "old")
    write_text(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert everything(tmp_path) == ["report.html"]


def test_a_reader_never_sees_a_part_of_a_written_text(tmp_path: Path) -> None:
    path, texts = tmp_path / "table.json", ["a" * 200_000, "b" * 400_000]
    stop, seen = threading.Event(), [texts[0]]
    write_text(path, texts[0])

    def read() -> None:
        while not stop.is_set():
            seen.append(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        writes, end = 0, time.monotonic() + PATIENCE
        while (writes < 20 or len(seen) < 40) and reader.is_alive() and time.monotonic() < end:
            writes += 1
            write_text(path, texts[writes % 2])
    finally:
        stop.set()
        reader.join()
    assert writes >= 20 and len(seen) >= 40 and set(seen) <= set(texts)


# A process that may write no more than 4 KiB to a file: its text breaks off in the middle.
BREAKS_OFF = """
import resource, sys
from pathlib import Path
from forkdiv.core.store import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_text(Path(sys.argv[1]), "x" * 100_000)
except OSError:
    sys.exit(3)
"""


def break_off(path: Path) -> int:
    root = str(Path(forkdiv.__file__).parents[1])
    command = [sys.executable, "-c", BREAKS_OFF, str(path)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": root}).returncode


def test_a_text_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_text(path, "old")
    assert break_off(path) == 3
    assert path.read_text() == "old"


def test_a_folder_that_can_be_written_is_accepted_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", min_free_mib=1)
    assert everything(tmp_path / "a" / "b") == []


@pytest.mark.parametrize("root", ["/proc/forkdiv", "/dev/null/runs"])
def test_a_place_that_takes_no_folder_is_refused(root: str) -> None:
    with pytest.raises(UserError) as caught:
        check_writable(Path(root), min_free_mib=0)
    message = str(caught.value)
    assert root in message and "place.root" in message and "\n" not in message


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "runs", min_free_mib=0)


def test_too_little_room_is_refused_with_the_knob_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nearly full.*MiB free.*place\.min_free_mib"):
        check_writable(tmp_path, min_free_mib=2**40)


def fill(disk: Path) -> None:
    with (disk / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    assert shutil.disk_usage(disk).free == 0


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        check_writable(disk, min_free_mib=0)
        fill(disk)
        with pytest.raises(UserError, match="No space left"):
            check_writable(disk, min_free_mib=0)


def test_a_refused_disk_is_left_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        with pytest.raises(UserError):
            check_writable(disk, min_free_mib=0)
        assert everything(disk) == ["fill"]


def test_a_text_that_breaks_off_leaves_no_other_file(tmp_path: Path) -> None:
    assert break_off(tmp_path / "card.json") == 3
    assert everything(tmp_path) == []


def test_a_folder_without_its_record_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.obtain(IDENTITY, two_files).path / "record.json").unlink()
    assert store.obtain(IDENTITY, two_files).path.is_dir()


def test_a_damaged_record_is_reported_like_any_damaged_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.obtain(IDENTITY, two_files).path / "record.json").write_text("")
    with pytest.raises(InvalidResult):
        store.find(IDENTITY)


def test_a_build_that_writes_a_record_of_its_own_is_refused_or_sound(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = store.obtain(IDENTITY, lambda folder: write_text(folder / "record.json", "mine"))
    assert store.find(IDENTITY) == made
