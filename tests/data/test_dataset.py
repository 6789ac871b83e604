"""Datasets: the same bytes for the same knobs, a card that counts right, readable by anyone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import forkdiv
from forkdiv.core.config.study import DatasetConfig, PretrainConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example, Outcome, Problem
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset
from forkdiv.tasks.arithmetic_chain import ArithmeticChainConfig
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build

TASK = GraphBranchingConfig()
ROW = GraphBranchingConfig(forks=2, valid=2, names=24)
LEAKY = ArithmeticChainConfig(position_leak=True)
KNOBS = DatasetConfig(examples=60, fork_density=0.25, direction=0.8)
WALKS = PretrainConfig(examples=50, walks=3)
END = "<eos>"


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return dataset.obtain_sft(Store(tmp_path_factory.mktemp("sft")), build(TASK), KNOBS)


def expected(knobs: DatasetConfig) -> list[Example]:
    return list(build(TASK).sft_examples(knobs))


def loaded(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The rows as Hugging Face `datasets` reads them, off line."""
    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(switch, "1")
    from datasets import load_dataset

    files = str(folder / dataset.EXAMPLES)
    return load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache))


def test_the_same_knobs_give_the_same_bytes(sft: Artifact, tmp_path: Path) -> None:
    again = dataset.obtain_sft(Store(tmp_path), build(TASK), KNOBS)
    assert again.path != sft.path and again.fingerprint == sft.fingerprint
    for name in (dataset.EXAMPLES, dataset.CARD):
        assert (again.path / name).read_bytes() == (sft.path / name).read_bytes()


def test_another_process_with_another_hash_seed_writes_the_same_bytes(
    sft: Artifact, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from forkdiv.core import store;"
        "from forkdiv.core.config import study;"
        "from forkdiv.core.config.tasks import task_adapter;"
        "from forkdiv.tasks.registry import build;"
        "from forkdiv.data import dataset;"
        "print(dataset.obtain_sft(store.Store(Path(sys.argv[1])),"
        "build(task_adapter.validate_json(sys.argv[2])),"
        "study.DatasetConfig.model_validate_json(sys.argv[3])).path)"
    )
    root = str(Path(forkdiv.__file__).parents[1])
    knobs = KNOBS.model_copy(update={"branch_coverage": 2, "direction": 0.8})
    for task, config, here in [
        (TASK, KNOBS, sft),
        (ROW, knobs, dataset.obtain_sft(Store(tmp_path / "here"), build(ROW), knobs)),
    ]:
        there = subprocess.run(
            [
                *(sys.executable, "-c", code, str(tmp_path / "there")),
                *(task.model_dump_json(), config.model_dump_json()),
            ],
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": "12345"},
            capture_output=True,
            text=True,
            check=True,
        )
        for name in (dataset.EXAMPLES, dataset.CARD):
            assert Path(there.stdout.strip(), name).read_bytes() == (here.path / name).read_bytes()


def test_other_knobs_give_other_bytes(sft: Artifact, tmp_path: Path) -> None:
    other = DatasetConfig(**{**KNOBS.model_dump(), "fork_density": 0.5})
    again = dataset.obtain_sft(Store(tmp_path), build(TASK), other)
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
    made = dataset.obtain_sft(Store(tmp_path), build(TASK), knobs)
    assert dataset.read(made.path) == expected(knobs)
    assert dataset.read_card(made.path)["examples"] == knobs.examples


def test_memory_does_not_grow_with_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "ROWS_AT_ONCE", 128)  # tracing is slow: small parts, few rows

    def peak(examples: int, held: bool = False) -> int:
        """Of writing so many examples, or of holding them in a list."""
        knobs = DatasetConfig(examples=examples, fork_density=0.5, direction=0.5)
        folder = tmp_path / str(examples)
        folder.mkdir(exist_ok=True)
        tracemalloc.start()
        try:
            rows = build(TASK).sft_examples(knobs)
            if held:
                assert len(list(rows)) == examples
            else:
                dataset.write(folder, rows, dataset.sft_identity(build(TASK), knobs), build(TASK))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is imported and cached once
    few, many = peak(128), peak(2048)
    assert many - few < peak(2048, held=True) / 2


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
    cells = Counter(f"{row['subset']}/{row['mode']}" for row in rows)
    assert card["by_subset_and_mode"] == cells
    assert card["mode_shares"] == {"forward": 0.8, "reverse": 0.2}
    assert card["forks"] == sum(row["forks"] for row in rows) == 48
    unsigned = sum(row["unsigned_forks"] for row in rows)
    assert card["unsigned_forks"] == unsigned
    assert card["fork_density"] == pytest.approx(unsigned / 48, abs=1e-6)
    assert card["examples_per_problem"] == 1.0
    words = sum(len(row["response"].split()) for row in rows)
    assert card["forks_per_100_response_words"] == pytest.approx(100 * 48 / words, abs=1e-3)


def test_the_card_says_which_knobs_made_it(sft: Artifact) -> None:
    card = dataset.read_card(sft.path)
    assert card["fingerprint"] == sft.fingerprint
    assert card["knobs"] == {
        "task": TASK.model_dump(exclude={"seed"}),
        "sft": {"examples": 60, "seed": 0, "fork_density": 0.25, "direction": 0.8},
    }
    assert card["task"] == card["knobs"]["task"]
    assert card["licence"] == build(TASK).licence and card["notes"] == []


@pytest.mark.parametrize("shown", [1, 2])
def test_the_card_counts_forks_examples_and_problems_separately(tmp_path: Path, shown: int) -> None:
    knobs = DatasetConfig(examples=60, fork_density=0.25, direction=0.5, branch_coverage=shown)
    made = dataset.obtain_sft(Store(tmp_path), build(ROW), knobs)
    card, rows = dataset.read_card(made.path), dataset.read(made.path)
    assert card["distinct_problems"] == len({row.problem_id for row in rows}) == 60 // shown
    assert card["examples_per_problem"] == shown
    assert card["forks"] == 2 * 30 == sum(row.forks for row in rows)
    assert card["unsigned_forks"] == sum(row.unsigned_forks for row in rows)
    assert card["fork_density"] == pytest.approx(card["unsigned_forks"] / 60, abs=1e-6)
    assert set(card["by_subset_and_mode"]) >= {"mixed/forward", "signed/reverse"}


def test_data_without_forks_has_no_density(tmp_path: Path) -> None:
    knobs = DatasetConfig(examples=10, direction=0.0)
    card = dataset.read_card(dataset.obtain_sft(Store(tmp_path), build(TASK), knobs).path)
    assert (card["forks"], card["fork_density"]) == (0, None)


def test_facts_of_a_row_are_enough_to_judge_its_response(sft: Artifact) -> None:
    for row in dataset.read(sft.path):
        facts = json.loads(row.facts)
        problem = Problem(row.problem_id, "train", row.subset, row.prompt, facts)
        verdict = build(TASK).verify(problem, row.response)
        assert (verdict.outcome, verdict.mode) == (Outcome.CORRECT, row.mode)


def test_a_card_has_the_notes_of_the_task_and_additional_entries(tmp_path: Path) -> None:
    identity = dataset.sft_identity(build(TASK), KNOBS)
    more = {"synthesis": {"way": "enumerator"}}
    dataset.write(tmp_path, expected(KNOBS), identity, build(LEAKY), more=more)
    card = dataset.read_card(tmp_path)
    assert card["synthesis"] == {"way": "enumerator"}
    assert card["task"]["position_leak"] is True
    assert card["notes"] == list(build(LEAKY).notes) and "leak" in " ".join(card["notes"])


@pytest.mark.parametrize("density", [0.0, 0.25, 0.5, 1.0])
def test_the_shares_of_the_knobs_are_in_the_card_exactly(tmp_path: Path, density: float) -> None:
    knobs = DatasetConfig(examples=60, fork_density=density, direction=0.8)
    card = dataset.read_card(dataset.obtain_sft(Store(tmp_path), build(TASK), knobs).path)
    cells = Counter(card["by_subset_and_mode"])
    assert cells["unsigned/forward"] + cells["unsigned/reverse"] == round(60 * density)
    assert cells["unsigned/forward"] == card["unsigned_forks"]
    assert cells["unsigned/forward"] + cells["signed/forward"] == card["forks"] == 48
    # whole problems are signed or not: the forks that are met share the density within a few
    assert card["unsigned_forks"] == pytest.approx(48 * density, abs=2)


@pytest.mark.parametrize("density", [0.0, 0.25, 0.5, 1.0])
def test_where_all_traces_go_forward_the_density_of_the_card_is_the_knobs(
    tmp_path: Path, density: float
) -> None:
    knobs = DatasetConfig(examples=60, fork_density=density)
    card = dataset.read_card(dataset.obtain_sft(Store(tmp_path), build(TASK), knobs).path)
    assert (card["forks"], card["fork_density"]) == (60, density)


def test_a_second_request_finds_the_dataset_and_builds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = dataset.obtain_sft(store, build(TASK), KNOBS)
    stat = (first.path / dataset.EXAMPLES).stat()
    again = dataset.obtain_sft(store, build(TASK), KNOBS)
    assert again == first, "the record was written anew"
    found = (again.path / dataset.EXAMPLES).stat()
    assert (found.st_ino, found.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


@pytest.mark.parametrize(
    "knobs",
    [
        {"structure": "data-level"},
        {"solutions": 4},
        {"mode_share": 0.25},
        {"branch_coverage": 1},
        {"synthesis": "samples"},
    ],
)
def test_a_knob_that_the_task_does_not_read_makes_no_other_dataset(knobs: dict[str, Any]) -> None:
    other = DatasetConfig.model_validate(KNOBS.model_dump() | knobs)
    first, second = (dataset.sft_identity(build(TASK), one).fingerprint for one in (KNOBS, other))
    assert first == second


def test_synthesis_is_not_part_of_the_identity_of_its_input_data() -> None:
    fingerprints = {
        dataset.sft_identity(build(ROW), DatasetConfig(synthesis=way)).fingerprint
        for way in ("none", "enumerator", "samples")
    }
    assert len(fingerprints) == 1


def test_the_number_a_task_has_of_its_own_is_that_number() -> None:
    own, named = DatasetConfig(), DatasetConfig(examples=build(TASK).sizes["train"])
    first, second = (dataset.sft_identity(build(TASK), one).fingerprint for one in (own, named))
    assert first == second


def test_the_seed_of_heldout_problems_is_not_part_of_the_identity_of_the_data() -> None:
    other = TASK.model_copy(update={"seed": 5})
    first, second = (dataset.sft_identity(build(task), KNOBS).fingerprint for task in (TASK, other))
    assert first == second
    walks = [dataset.walks_identity(build(task), WALKS, END).fingerprint for task in (TASK, other)]
    assert walks[0] == walks[1]


def test_too_few_distinct_problems_leave_no_dataset(tmp_path: Path) -> None:
    task = GraphBranchingConfig(degree=2, length=3, names=7)
    with pytest.raises(UserError, match="too few distinct problems"):
        dataset.obtain_sft(Store(tmp_path), build(task), DatasetConfig(examples=5000))
    assert list((tmp_path / "dataset").iterdir()) == []


def test_walks_are_an_artifact_of_their_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = dataset.obtain_walks(store, build(TASK), WALKS, END)
    assert first == dataset.obtain_walks(store, build(TASK), WALKS, END)
    rows = dataset.read(first.path)
    assert rows == list(build(TASK).walk_examples(WALKS, END))
    assert all(len(row.response.split(END)) == 3 for row in rows)
    assert dataset.read_card(first.path)["forks"] == 150


def test_walks_for_another_end_token_are_another_dataset(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dataset.obtain_walks(store, build(TASK), WALKS, END)
    other = dataset.obtain_walks(store, build(TASK), WALKS, "</s>")
    assert all(END not in row.response for row in dataset.read(other.path))


def test_the_card_of_walks_counts_every_node_as_a_word(tmp_path: Path) -> None:
    made = dataset.obtain_walks(Store(tmp_path), build(TASK), WALKS, END)
    nodes = 50 * 3 * (TASK.length + 1)
    share = dataset.read_card(made.path)["forks_per_100_response_words"]
    assert share <= 100 * 150 / nodes + 1e-3
