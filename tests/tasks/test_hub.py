"""Datasets of the hub: subsets and splits, rows as they are there, and identity by content."""

from __future__ import annotations

import gzip
import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import _tree_cache, constants

from forkdiv.core.errors import UserError
from forkdiv.core.hub import cache_folder
from forkdiv.core.hub_names import dataset_name
from forkdiv.core.store import Store
from forkdiv.tasks.own_data import hub_rows
from forkdiv.tasks.own_data.checked import digest, read_rows
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.hub import NamedData, fetch_dataset
from tests.hub_server import Hub, Repo

CARD = b"""---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
- config_name: socratic
  data_files:
  - split: train
    path: socratic/train-*
---
# Sums
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def ignore(message: str) -> None:
    pass


def fetch(store: Store, text: str, default_split: str = "test") -> NamedData:
    name = dataset_name(text)
    assert name
    return fetch_dataset(name, store, ignore, default_split)


def rows_of(data: NamedData) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.path.read_text(encoding="utf-8").splitlines()]


def refusal(store: Store, text: str) -> str:
    with pytest.raises(UserError) as failed:
        fetch(store, text)
    assert "\n" not in str(failed.value)
    assert not list(store.root.glob("source/*/*.jsonl"))
    return str(failed.value)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def sums(*numbers: int) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in numbers]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {
    "README.md": CARD,
    "main/train-00000-of-00002.parquet": parquet(sums(1, 2)),
    "main/train-00001-of-00002.parquet": parquet(sums(3)),
    "main/test-00000-of-00001.parquet": parquet(sums(4, 5)),
    "socratic/train-00000-of-00001.parquet": parquet(sums(6)),
}


def push(hub: Hub, files: dict[str, bytes], branch: str = "main") -> Repo:
    repo = hub.repo("org/sums", "dataset")
    repo.push(files, branch)
    return repo


def test_a_split_of_a_subset_has_its_rows_in_order(hub: Hub, store: Store) -> None:
    push(hub, FILES)
    train = fetch(store, "org/sums/main:train")
    assert rows_of(train) == sums(1, 2, 3)
    assert (train.subset, train.split, train.rows) == ("main", "train", 3)
    assert train.path.name == "org-sums-main-train.jsonl"
    assert rows_of(fetch(store, "org/sums/main:test")) == sums(4, 5)
    assert rows_of(fetch(store, "org/sums/socratic")) == sums(6)


def test_only_the_files_of_the_split_are_downloaded(hub: Hub, store: Store) -> None:
    push(hub, FILES)
    fetch(store, "org/sums/main:test")
    got = {line.rpartition("/")[2] for line in hub.requests if "/resolve/" in line}
    assert got == {"README.md", "test-00000-of-00001.parquet"}


def test_the_rows_are_read_as_any_data_file(hub: Hub, store: Store) -> None:
    push(hub, FILES)
    data = fetch(store, "org/sums/main:test")
    read = read_rows(data.path, "auto", ColumnsConfig())
    assert [row.prompt for row in read.rows] == ["What is 4 + 1?", "What is 5 + 1?"]
    with pytest.raises(UserError, match=r"got 'query'; allowed: 'question', 'answer'"):
        read_rows(data.path, "auto", ColumnsConfig(prompt="query"))


def test_without_a_split_the_only_one_is_used_or_that_of_the_setting(
    hub: Hub, store: Store
) -> None:
    push(hub, FILES)
    assert fetch(store, "org/sums/main").split == "test"
    assert fetch(store, "org/sums/main", "train").split == "train"
    assert fetch(store, "org/sums/socratic").split == "train"
    with pytest.raises(UserError, match=r"org/sums/main has several splits.*: train, test; write"):
        fetch(store, "org/sums/main", "validation")


def test_a_subset_or_split_that_is_not_there_is_refused_with_those_that_are(
    hub: Hub, store: Store
) -> None:
    push(hub, FILES)
    text = refusal(store, "org/sums/main:validation")
    assert "org/sums/main has no split of this name: got validation; allowed: train, test" in text
    text = refusal(store, "org/sums/maine:test")
    assert "has no subset of this name: got maine; allowed: main, socratic" in text
    text = refusal(store, "org/sums:test")
    assert "needs the name of one of its subsets" in text
    assert "write org/sums/main:test" in text
    push(hub, {"test.jsonl": lines(sums(1))})
    text = refusal(store, "org/sums/main:test")
    assert "allowed: default; write org/sums:test" in text


@pytest.mark.parametrize(
    "files",
    [
        {"train.jsonl": lines(sums(1)), "test.jsonl": lines(sums(2))},
        {"data/train-00000-of-00001.parquet": parquet(sums(1)),
         "data/test-00000-of-00001.parquet": parquet(sums(2))},
        {"train/a.csv": b"question,answer\nWhat is 1 + 1?,#### 2\n",
         "test/b.csv": b"question,answer\nWhat is 2 + 1?,#### 3\n"},
        {"test.json": json.dumps(sums(2)).encode(), "README.md": b"# no card", "LICENSE": b"MIT"},
    ],
)  # fmt: skip
def test_a_dataset_without_a_card_is_read_by_the_names_of_its_files(
    hub: Hub, store: Store, files: dict[str, bytes]
) -> None:
    push(hub, files)
    data = fetch(store, "org/sums:test")
    read = read_rows(data.path, "auto", ColumnsConfig())
    assert [row.prompt for row in read.rows] == ["What is 2 + 1?"]
    assert (data.subset, data.rows) == (None, 1)


def test_a_subset_may_be_a_folder_of_a_dataset_without_a_card(hub: Hub, store: Store) -> None:
    """As on the branch refs/convert/parquet, which the hub makes of most datasets."""
    files = {
        "main/test/0000.parquet": parquet(sums(1)),
        "main/train/0000.parquet": parquet(sums(2)),
        "other/test/0000.parquet": parquet(sums(3)),
    }
    push(hub, files, "refs/convert/parquet")
    data = fetch(store, "org/sums/main:test@refs/convert/parquet")
    assert rows_of(data) == sums(1)
    assert data.subset == "main"
    text = refusal_of_other(store, "org/sums/none:test@refs/convert/parquet")
    assert "allowed: main, other" in text


def refusal_of_other(store: Store, text: str) -> str:
    with pytest.raises(UserError) as failed:
        fetch(store, text)
    return str(failed.value)


def test_equal_rows_are_the_same_data_and_other_rows_are_others(hub: Hub, store: Store) -> None:
    repo = push(hub, FILES)
    first = fetch(store, "org/sums/main:test")
    push(hub, FILES | {"README.md": CARD + b"A new sentence.\n"})
    second = fetch(store, "org/sums/main:test")
    push(hub, FILES | {"main/test-00000-of-00001.parquet": parquet(sums(4, 6))})
    third = fetch(store, "org/sums/main:test")
    assert len({first.commit, second.commit, third.commit}) == 3
    assert digest(first.path) == digest(second.path) != digest(third.path)
    repo.refs["v1"] = first.commit
    assert fetch(store, "org/sums/main:test@v1") == first


def test_the_record_beside_the_rows_names_the_commit(hub: Hub, store: Store) -> None:
    push(hub, FILES)
    data = fetch(store, "org/sums/main:test")
    record = json.loads((data.path.parent / "record.json").read_text())
    assert record["identity"]["config"] == {
        "repository": "org/sums",
        "commit": data.commit,
        "subset": "main",
        "split": "test",
        "default_split": None,
    }


def test_a_dataset_in_the_cache_needs_no_network(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(hub, FILES)
    online = fetch(store, "org/sums/main:train")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch(store, "org/sums/main:train") == online
    other = fetch(Store(tmp_path / "other"), "org/sums/main:train")
    assert other.path.read_bytes() == online.path.read_bytes()
    text = refusal(Store(tmp_path / "third"), "org/sums/main:test")
    assert "a part of it is in the cache" in text
    assert hub.requests == []


def test_a_cache_of_an_older_library_with_a_part_of_a_split_is_refused(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(hub, FILES)
    fetch(store, "org/sums/main:train")
    fetch(store, "org/sums/main:test")
    fetch(store, "org/sums/socratic:train")
    for listing in cache_folder().rglob("trees/*.json"):
        listing.unlink()
    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert rows_of(fetch(Store(tmp_path / "other"), "org/sums/main:train")) == sums(1, 2, 3)
    for part in cache_folder().rglob("train-00001-of-00002.parquet"):
        part.unlink()
    text = refusal(Store(tmp_path / "third"), "org/sums/main:train")
    assert "is incomplete: got no main/train-00001-of-00002" in text


def test_a_dataset_with_a_script_is_refused_and_its_code_is_not_downloaded(
    hub: Hub, store: Store
) -> None:
    push(hub, FILES | {"sums.py": b"raise SystemExit"})
    text = refusal(store, "org/sums/main:test")
    assert "is read by its own Python code, which forkdiv never runs: got sums.py" in text
    assert "@refs/convert/parquet" in text
    assert not any(line.endswith("sums.py") for line in hub.requests)


def test_a_dataset_without_data_files_is_refused(hub: Hub, store: Store) -> None:
    push(hub, {"README.md": b"# empty", "notes.doc": b"x"})
    text = refusal(store, "org/sums")
    assert "has no files that can be read: got README.md, notes.doc" in text


@pytest.mark.parametrize(
    "files",
    [
        {"test.parquet": b"PAR1 and then nothing"},
        {"test.json": b'[{"question": "a"}, {"question": ]'},
        {"test.csv": b"question;answer\na;1\n"},
        {"a/test.csv": b"question,answer\na,1,2\n", "b/test.csv": b"question,answer\na,1\n"},
        {"test.jsonl": b""},
        {"data.zip": b"PK"},
        {"README.md": b"---\nconfigs: 3\n---\n", "test.jsonl": lines(sums(1))},
        {"README.md": b"---\nconfigs: [\n---\n", "test.jsonl": lines(sums(1))},
        {"README.md": CARD, "test.jsonl": lines(sums(1))},
    ],
)
def test_a_damaged_dataset_is_one_line(hub: Hub, store: Store, files: dict[str, bytes]) -> None:
    push(hub, files)
    text = refusal(store, "org/sums")
    assert any(
        part in text
        for part in (
            "cannot read org/sums",
            "no files that can be read",
            "cannot be read",
            "is empty",
        )
    )


def test_texts_and_numbers_of_text_files_stay_as_they_are_written(hub: Hub, store: Store) -> None:
    day = '{"question": "When?", "answer": "2020-01-02", "n": 1.10, "big": 12345678901234567890123}'
    push(hub, {"test.jsonl": day.encode()})
    assert fetch(store, "org/sums:test").path.read_text() == day + "\n"
    push(hub, {"train.csv": b"question,answer\nWho?,007\n"})
    assert fetch(store, "org/sums:train").path.read_text() == "question,answer\nWho?,007\n"


def test_jsonl_in_several_files_is_joined_and_a_bad_line_is_named(hub: Hub, store: Store) -> None:
    first = lines(sums(1)).rstrip(b"\n")
    push(hub, {"test/a.jsonl": first, "test/b.jsonl.gz": gzip.compress(lines(sums(2)) + b"{")})
    data = fetch(store, "org/sums:test")
    read = read_rows(data.path, "auto", ColumnsConfig())
    assert data.rows == read.total == 3
    assert "line 3: is invalid JSON" in read.report()


def test_text_that_is_too_large_is_refused_before_it_is_downloaded(
    hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_rows, "LARGEST_FILE", 1000)
    push(hub, {"test/a.jsonl": lines(sums(*range(20))), "test/b.jsonl": lines(sums(1))})
    assert "the split of the dataset is too large" in refusal(store, "org/sums:test")
    assert not any("/resolve/" in line for line in hub.requests)
    push(hub, {"test.parquet": parquet(sums(*range(20)))})
    assert "the split of the dataset is too large" in refusal(store, "org/sums:test")


def test_csv_in_several_files_becomes_jsonl(hub: Hub, store: Store) -> None:
    files = {f"test/{n}.csv": f"question,answer\nWhat?,0{n}\n".encode() for n in (1, 2)}
    push(hub, files)
    data = fetch(store, "org/sums:test")
    assert rows_of(data) == [{"question": "What?", "answer": f"0{n}"} for n in (1, 2)]


def test_csv_with_settings_in_the_card_is_read_by_them(hub: Hub, store: Store) -> None:
    card = b"---\nconfigs:\n- config_name: default\n  data_files: t.csv\n  sep: ';'\n---\n"
    push(hub, {"README.md": card, "t.csv": b"question;answer\na;x\n"})
    assert rows_of(fetch(store, "org/sums")) == [{"question": "a", "answer": "x"}]


def test_objects_of_differing_keys_stay_objects(hub: Hub, store: Store) -> None:
    rows = [{"meta": {"k": 1}}, {"meta": {"k": 2, "z": "s"}}]
    features = datasets.Features({"meta": datasets.Json()})
    out = io.BytesIO()
    datasets.Dataset.from_list(rows, features=features).to_parquet(out)
    push(hub, {"test.parquet": out.getvalue()})
    assert rows_of(fetch(store, "org/sums")) == rows


def test_values_keep_what_json_can_hold_and_bytes_are_left_out(hub: Hub, store: Store) -> None:
    row = {
        "question": "é\u2028",
        "choices": {"label": ["A", "B"], "text": ["x", "y"]},
        "id": 2**62,
        "share": 0.1,
        "gone": float("nan"),
        "day": date(2026, 1, 2),
        "price": Decimal("1.50"),
        "none": None,
        "image": {"bytes": b"\x89PNG", "path": "a.png"},
        "raw": [b"\x00"],
    }
    schema = pa.Table.from_pylist([row]).schema.set(7, pa.field("none", pa.string()))
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema), out)
    push(hub, {"test.parquet": out.getvalue()})
    data = fetch(store, "org/sums")
    (read,) = [json.loads(line) for line in data.path.read_text("utf-8").split("\n") if line]
    assert read == {
        **{key: row[key] for key in ("question", "choices", "id", "share", "none")},
        "gone": None,
        "day": "2026-01-02",
        "price": "1.50",
    }
    assert data.left_out == ("image", "raw")
    assert "without the columns image, raw" in str(data)
