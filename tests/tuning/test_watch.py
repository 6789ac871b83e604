"""A run that is still written to: which checkpoints are taken, and when."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from queue import Empty

import pytest

from forkdiv.core.errors import UserError
from forkdiv.models.checkpoint import open_checkpoint
from tests.adapters import saved_adapter
from tests.stack import BASE
from tuning import snapshots
from tuning.watch import Item, Looker, candidates, check_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def looker(run: Path, lines: list[str] | None = None, pattern: str | None = None) -> Looker:
    show = (lines if lines is not None else []).append
    return Looker(run, run.parent / "snapshots", pattern, 0.01, set(), show)


def taken(look: Looker) -> list[float]:
    items: list[float] = []
    while True:
        try:
            item = look.items.get_nowait()
        except Empty:
            return items
        assert isinstance(item, Item), item
        items.append(item.number)


def test_a_checkpoint_is_taken_once_when_nobody_writes_to_it_any_more(run: Path) -> None:
    look = looker(run)
    folder = run / "checkpoint-10"
    look.look()
    folder.mkdir()
    shutil.copyfile(BASE / "config.json", folder / "config.json")
    data = (BASE / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:1000])
    for _ in range(3):
        look.look()
    assert taken(look) == [] and "cannot be read" in look.waiting[folder.name]
    (folder / "model.safetensors").write_bytes(data)
    look.look()
    assert taken(look) == [], "complete, but it was written to since the last look"
    shutil.copyfile(BASE / "tokenizer.json", folder / "tokenizer.json")
    look.look()
    assert taken(look) == []
    for _ in range(3):
        look.look()
    assert taken(look) == [10] and not look.waiting


def test_it_is_not_idle_while_a_checkpoint_is_being_written(run: Path) -> None:
    look = looker(run)
    folder = run / "checkpoint-10"
    folder.mkdir()
    for size in (1, 2):
        (folder / "model.safetensors").write_bytes(bytes(size))
        look.last_new = 0
        look.look()
        assert look.last_new > 0
    look.last_new = 0
    look.look()
    assert look.last_new == 0, "it waits for the rest, and nobody writes"


def test_idle_time_begins_when_it_begins_to_look(run: Path) -> None:
    look = looker(run)
    look.last_new = 0
    with look.running():
        assert look.last_new > 0


def test_checkpoints_wait_in_snapshots_that_outlive_them(run: Path) -> None:
    lines: list[str] = []
    look = looker(run, lines)
    for step in (5, 10):
        shutil.copytree(BASE, run / f"checkpoint-{step}")
    (run / "checkpoint-5" / "optimizer.pt").write_bytes(b"0")
    look.look()
    look.look()
    expected = open_checkpoint(run / "checkpoint-5").fingerprint
    shutil.rmtree(run / "checkpoint-5")
    look.look()
    assert taken(look) == [5, 10] and lines == []
    snapshot = run.parent / "snapshots" / "checkpoint-5"
    assert open_checkpoint(snapshot).fingerprint == expected
    assert not (snapshot / "optimizer.pt").exists()
    weights = run.parent / "snapshots" / "checkpoint-10" / "model.safetensors"
    assert os.path.samefile(weights, run / "checkpoint-10" / "model.safetensors"), "no copy"


def test_a_checkpoint_that_vanishes_before_it_is_complete_is_named_and_nothing_fails(
    run: Path,
) -> None:
    lines: list[str] = []
    look = looker(run, lines)
    folder = run / "checkpoint-10"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    look.look()
    look.look()
    shutil.rmtree(folder)
    look.look()
    assert lines == ["checkpoint-10 was deleted before it was complete"]
    shutil.rmtree(run)
    look.look()
    assert look.is_gone and taken(look) == []


def test_names_decide_what_is_a_checkpoint_of_the_run(run: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-10", "tmp-checkpoint-11", ".epoch-3", "runs", "v2"):
        (run / name).mkdir()
    (run / "step-1").write_text("a file")
    assert [number for number, _ in candidates(run, None)] == [9, 10]
    assert [number for number, _ in candidates(run, "v*")] == [2]


def test_the_weights_of_a_measured_snapshot_are_released_and_what_it_was_is_kept(
    run: Path,
) -> None:
    source = saved_adapter(run / "checkpoint-4")
    snapshot = run.parent / "snapshot"
    watched = snapshots.take(source, 4, snapshot)
    assert {file.name for file in snapshot.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert snapshots.recorded(snapshot) == watched and not watched.fingerprint
    snapshots.release(snapshot, "f" * 32)
    watched = replace(watched, fingerprint="f" * 32)
    assert not list(snapshot.rglob("*.safetensors"))
    assert snapshots.recorded(snapshot) == watched and not snapshots.has_changed(watched)
    saved_adapter(source, seed=1)
    assert snapshots.has_changed(watched), "trained again in the same folder"
    shutil.rmtree(source)
    assert not snapshots.has_changed(watched), "what is gone cannot be measured again"


def test_a_model_without_a_tokenizer_gets_that_of_the_base(run: Path) -> None:
    shutil.copytree(BASE, run / "checkpoint-1")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (run / "checkpoint-1" / name).unlink()
    snapshot = run.parent / "snapshot"
    snapshots.take(run / "checkpoint-1", 1, snapshot)
    assert snapshots.add_tokenizer(snapshot, BASE)
    open_checkpoint(snapshot)
    assert not snapshots.add_tokenizer(snapshot, BASE)


def test_a_folder_that_cannot_be_a_run_is_refused(run: Path) -> None:
    check_run(run)  # empty: the training has just begun
    with pytest.raises(UserError, match="does not exist"):
        check_run(run / "missing")
    with pytest.raises(UserError, match="is a checkpoint itself"):
        check_run(BASE)
    shutil.copytree(BASE, run / "checkpoint-1")
    shutil.copyfile(BASE / "config.json", run / "config.json")
    check_run(run)  # a trainer wrote its last model above its checkpoints
