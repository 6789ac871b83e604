"""Finds of the fuzzer at the readers of datasets, samples and results."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from forkdiv.core import store_contents
from forkdiv.core.config.load import load
from forkdiv.core.errors import UserError
from forkdiv.core.explain import Results
from forkdiv.core.explain import read as read_explained
from forkdiv.core.results import TrackedRun
from forkdiv.core.store_record import DamagedResult, read
from forkdiv.data import dataset, inputs
from forkdiv.report import studies
from forkdiv.sample import parts
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.own_data.task import OwnData
from forkdiv.tasks.registry import build
from tests.fuzz.stored import with_results


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    study = load(None, ["dataset.examples=12"])
    task = build(study.task)
    folder = tmp_path / "dataset"
    folder.mkdir()
    identity = dataset.sft_identity(task, study.dataset)
    dataset.write(folder, task.sft_examples(study.dataset), identity, task)
    return folder


def test_examples_that_are_truncated_are_refused(written: Path) -> None:
    file = written / dataset.EXAMPLES
    os.truncate(file, file.stat().st_size - 5)
    assert "cannot be read" in refusal(lambda: dataset.read(written))


def test_examples_with_other_columns_or_missing_values_are_refused(written: Path) -> None:
    file = written / dataset.EXAMPLES
    rows = pq.read_table(file).to_pylist()
    pq.write_table(pa.Table.from_pylist([{"a": 1}]), file)
    assert "cannot be read" in refusal(lambda: dataset.read(written))
    pq.write_table(pa.Table.from_pylist([rows[0] | {"prompt": None}], dataset.SCHEMA), file)
    assert "a value is missing" in refusal(lambda: dataset.read(written))


def test_examples_that_are_a_pipe_are_refused_without_opening_it(written: Path) -> None:
    (written / dataset.EXAMPLES).unlink()
    os.mkfifo(written / dataset.EXAMPLES)
    assert "a FIFO" in refusal(lambda: dataset.read(written))


@pytest.mark.parametrize("text", ["[", "[" * 5000, "{}", '{"task": 3}', "\xff"])
def test_a_damaged_card_is_refused(written: Path, text: str) -> None:
    (written / dataset.CARD).write_bytes(text.encode("latin-1"))
    study = load(None, [f"data={written}"])
    assert "the card" in refusal(lambda: inputs.with_task_of_data(study))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uri": 1, "experiment": "1", "run": "a"}', "["])
def test_a_damaged_record_of_the_mlflow_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mlflow.json").write_text(text)
    assert "mlflow.json" in refusal(lambda: TrackedRun.kept_in(tmp_path))


def test_a_summary_nested_too_deeply_or_unreadable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("[" * 5000)
    assert "summary.json" in refusal(lambda: studies.read(tmp_path))
    (tmp_path / "summary.json").unlink()
    (tmp_path / "summary.json").symlink_to("/proc/self/mem")
    assert "summary.json" in refusal(lambda: studies.read(tmp_path))


@pytest.mark.parametrize(
    ("field", "value"),
    [("fingerprint", -1), ("seconds", "Infinity"), ("files", {"a": "Infinity"}), ("seconds", [])],
)
def test_a_record_with_values_of_another_kind_is_damaged(
    tmp_path: Path, field: str, value: Any
) -> None:
    store, (first, *_) = with_results(tmp_path)
    path = store.path(first) / "record.json"
    text = json.dumps(json.loads(path.read_text()) | {field: value})
    path.write_text(text.replace('"Infinity"', "Infinity"))
    if field == "seconds" and value == "Infinity":
        read(store.path(first))  # a time decides nothing
        return
    with pytest.raises(DamagedResult):
        read(store.path(first))


def test_a_record_nested_too_deeply_is_damaged_for_each_reader(tmp_path: Path) -> None:
    store, (first, second, _) = with_results(tmp_path)
    (store.path(first) / "record.json").write_text('{"started": ' + "[" * 5000)
    for reader in (read, read_explained):
        with pytest.raises(DamagedResult):
            reader(store.path(first))
    with pytest.raises(DamagedResult):
        Results(tmp_path).nearest(read_explained(store.path(second)))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_part_that_is_a_pipe_or_a_device_is_named_without_reading_it(
    tmp_path: Path, kind: str
) -> None:
    store, (*_, samples) = with_results(tmp_path)
    part = parts.files(store.path(samples))[0]
    part.unlink()
    if kind == "pipe":
        os.mkfifo(part)
    else:
        part.symlink_to("/dev/zero")
    with pytest.raises(parts.DamagedPart, match="not a regular file"):
        parts.check(part)


def rows_of(path: Path) -> list[str]:
    task = OwnData(FileConfig(train=path, grader="none"))
    return [example.prompt for example in task.training_examples()]


def test_arrow_with_damaged_offsets_is_refused_and_reads_no_other_memory(tmp_path: Path) -> None:
    path = tmp_path / "data.arrow"
    table = pa.Table.from_pylist([{"prompt": f"prompt {n}", "completion": "x"} for n in range(3)])
    feather.write_feather(table, path, compression="uncompressed")
    good = struct.pack("<4i", 0, 8, 16, 24)
    data = path.read_bytes()
    assert data.count(good) == 1
    path.write_bytes(data.replace(good, struct.pack("<4i", 0, 2**30, 16, 24)))
    assert "row 1" in refusal(lambda: rows_of(path))


def test_parquet_with_damaged_statistics_is_refused_and_does_not_end_the_process(
    tmp_path: Path,
) -> None:
    """pyarrow aborts when the metadata of such a column are asked for."""
    for bit in range(8):
        path = tmp_path / f"{bit}.parquet"
        rows = [{"prompt": f"prompt {n}", "completion": "x"} for n in range(3)]
        pq.write_table(pa.Table.from_pylist(rows), path)
        data = bytearray(path.read_bytes())
        footer = int.from_bytes(data[-8:-4], "little")
        changed = 0
        for at in range(len(data) - 8 - footer, len(data) - 8, 7):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            try:
                rows_of(path)
            except UserError:
                changed += 1
        assert changed


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
@pytest.mark.parametrize("how", ["large", "deep", "pipe"])
def test_a_saved_dataset_with_a_file_that_is_not_as_datasets_writes_it_is_refused(
    tmp_path: Path, name: str, how: str
) -> None:
    import datasets

    folder = tmp_path / "saved"
    datasets.Dataset.from_list([{"prompt": "a", "completion": "b"}]).save_to_disk(str(folder))
    (folder / name).unlink()
    if how == "pipe":
        os.mkfifo(folder / name)
    elif how == "deep":
        (folder / name).write_text('{"features": ' + "[" * 5000)
    else:
        with (folder / name).open("wb") as file:
            file.truncate(2**31)
    assert name in refusal(lambda: rows_of(folder)) or how == "deep"


def test_a_long_value_of_a_setting_is_shortened_in_its_message() -> None:
    value = json.dumps({f"k{n}": n for n in range(500)})
    assert "prompt.date" in refusal(lambda: load(None, [f"prompt.date={value}"]))


@pytest.mark.parametrize("name", ["x" * 3000, "a\0b", "../other/data.json", "/etc/passwd"])
def test_a_record_that_names_no_file_of_its_folder_is_damaged(tmp_path: Path, name: str) -> None:
    store, (first, *_) = with_results(tmp_path)
    path = store.path(first) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {name: 1}}))
    with pytest.raises(DamagedResult):
        store.find(first)


def test_an_identity_that_is_a_pipe_is_damaged_and_not_waited_for(tmp_path: Path) -> None:
    store, (*_, samples) = with_results(tmp_path)
    (store.path(samples) / "identity.json").unlink()
    os.mkfifo(store.path(samples) / "identity.json")
    (entry,) = [e for e in store_contents.read(store.root).entries if e.stage == "samples"]
    (damage,) = store_contents.damages(entry, parts.check)
    assert "not a regular file" in damage.problem


def test_a_card_of_a_gigabyte_is_refused_without_reading_it(written: Path) -> None:
    with (written / dataset.CARD).open("wb") as file:
        file.truncate(2**30)
    study = load(None, [f"data={written}"])
    assert "at most" in refusal(lambda: inputs.with_task_of_data(study))
