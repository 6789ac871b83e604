"""Datasets: the same bytes for the same knobs, a card that counts right, readable by anyone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import forkdiv
import forkdiv.errors
from forkdiv import dataset
from forkdiv.artifacts import Artifact, Store
from forkdiv.config import DatasetConfig, GraphBranchingConfig, PretrainConfig
from forkdiv.records import Example
from forkdiv.tasks import build

TASK = GraphBranchingConfig()
KNOBS = DatasetConfig(examples=60, fork_density=0.25, direction=0.8)
WALKS = PretrainConfig(examples=50, walks=3)
END = "<eos>"


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return dataset.obtain_sft(Store(tmp_path_factory.mktemp("sft")), TASK, KNOBS)


def expected(knobs: DatasetConfig) -> list[Example]:
    return list(
        build(TASK).sft_examples(knobs.examples, knobs.fork_density, knobs.direction, knobs.seed)
    )


def loaded(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The rows as Hugging Face `datasets` reads them, off line."""
    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(switch, "1")
    from datasets import load_dataset

    files = str(folder / dataset.EXAMPLES)
    return load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache))


def test_the_same_knobs_give_the_same_bytes(sft: Artifact, tmp_path: Path) -> None:
    again = dataset.obtain_sft(Store(tmp_path), TASK, KNOBS)
    assert again.path != sft.path and again.fingerprint == sft.fingerprint
    for name in (dataset.EXAMPLES, dataset.CARD):
        assert (again.path / name).read_bytes() == (sft.path / name).read_bytes()


def test_another_process_with_another_hash_seed_writes_the_same_bytes(
    sft: Artifact, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from forkdiv import dataset, config, artifacts;"
        "print(dataset.obtain_sft(artifacts.Store(Path(sys.argv[1])),"
        "config.GraphBranchingConfig(), config.DatasetConfig.model_validate_json(sys.argv[2])"
        ").path)"
    )
    root = str(Path(forkdiv.__file__).parents[1])
    there = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), KNOBS.model_dump_json()],
        env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    for name in (dataset.EXAMPLES, dataset.CARD):
        assert Path(there.stdout.strip(), name).read_bytes() == (sft.path / name).read_bytes()


def test_other_knobs_give_other_bytes(sft: Artifact, tmp_path: Path) -> None:
    other = DatasetConfig(**{**KNOBS.model_dump(), "fork_density": 0.5})
    again = dataset.obtain_sft(Store(tmp_path), TASK, other)
    assert again.fingerprint != sft.fingerprint
    first, second = (a.path / dataset.EXAMPLES for a in (sft, again))
    assert first.read_bytes() != second.read_bytes()


def test_what_is_read_is_what_the_task_made_in_its_order(sft: Artifact) -> None:
    assert dataset.read(sft.path) == expected(KNOBS)
    assert next(dataset.stream(sft.path)) == expected(KNOBS)[0]


def test_more_examples_than_are_written_at_once_keep_their_order(
    tmp_path: Path,
) -> None:
    knobs = DatasetConfig(examples=dataset.ROWS_AT_ONCE + 5)
    made = dataset.obtain_sft(Store(tmp_path), TASK, knobs)
    assert dataset.read(made.path) == expected(knobs)
    assert dataset.read_card(made.path)["examples"] == knobs.examples


def test_hugging_face_reads_the_same_rows(
    sft: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = loaded(sft.path, tmp_path, monkeypatch)
    assert rows.column_names == dataset.SCHEMA.names
    assert [Example(**row) for row in rows] == expected(KNOBS)


def test_the_card_counts_what_the_rows_hold(
    sft: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(loaded(sft.path, tmp_path, monkeypatch))
    card = json.loads((sft.path / dataset.CARD).read_text())
    assert card == dataset.read_card(sft.path)
    assert card["examples"] == len(rows) == 60
    assert card["distinct_problems"] == len({row["problem_id"] for row in rows}) == 60
    cells = Counter(f"{row['subset']}/{row['direction']}" for row in rows)
    assert card["by_subset_and_direction"] == cells
    assert card["forks"] == sum(row["direction"] == "forward" for row in rows) == 48
    words = sum(len(row["response"].split()) for row in rows)
    assert card["forks_per_100_response_words"] == pytest.approx(100 * 48 / words, abs=1e-3)


def test_the_card_says_which_knobs_made_it(sft: Artifact) -> None:
    card = dataset.read_card(sft.path)
    assert card["fingerprint"] == sft.fingerprint
    assert card["knobs"] == {
        "task": TASK.model_dump(exclude={"seed"}),
        "sft": KNOBS.model_dump(),
    }


@pytest.mark.parametrize("density", [0.0, 0.25, 0.5, 1.0])
def test_the_shares_of_the_knobs_are_in_the_card_exactly(tmp_path: Path, density: float) -> None:
    knobs = DatasetConfig(examples=60, fork_density=density, direction=0.8)
    card = dataset.read_card(dataset.obtain_sft(Store(tmp_path), TASK, knobs).path)
    cells = Counter(card["by_subset_and_direction"])
    unsigned = sum(count for cell, count in cells.items() if cell.startswith("unsigned"))
    forward = sum(count for cell, count in cells.items() if cell.endswith("forward"))
    assert (unsigned, forward) == (round(60 * density), 48)


def test_a_second_request_finds_the_dataset_and_builds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = dataset.obtain_sft(store, TASK, KNOBS)
    stat = (first.path / dataset.EXAMPLES).stat()
    again = dataset.obtain_sft(store, TASK, KNOBS)
    assert again == first, "the record was written anew"
    found = (again.path / dataset.EXAMPLES).stat()
    assert (found.st_ino, found.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_too_few_distinct_problems_leave_no_dataset(tmp_path: Path) -> None:
    task = GraphBranchingConfig(degree=2, length=3, names=7)
    with pytest.raises(forkdiv.errors.UserError, match="too few distinct problems"):
        dataset.obtain_sft(Store(tmp_path), task, DatasetConfig(examples=5000))
    assert list((tmp_path / "dataset").iterdir()) == []


def test_walks_are_an_artifact_of_their_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = dataset.obtain_walks(store, TASK, WALKS, END)
    assert first == dataset.obtain_walks(store, TASK, WALKS, END)
    rows = dataset.read(first.path)
    assert rows == list(build(TASK).walk_examples(50, 3, END, WALKS.seed))
    assert all(len(row.response.split(END)) == 3 for row in rows)
    assert dataset.read_card(first.path)["forks"] == 150


def test_walks_for_another_end_token_are_another_dataset(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dataset.obtain_walks(store, TASK, WALKS, END)
    other = dataset.obtain_walks(store, TASK, WALKS, "</s>")
    assert all(END not in row.response for row in dataset.read(other.path))


def test_the_card_of_walks_counts_every_node_as_a_word(tmp_path: Path) -> None:
    made = dataset.obtain_walks(Store(tmp_path), TASK, WALKS, END)
    nodes = 50 * 3 * (TASK.length + 1)
    share = dataset.read_card(made.path)["forks_per_100_response_words"]
    assert share <= 100 * 150 / nodes + 1e-3
