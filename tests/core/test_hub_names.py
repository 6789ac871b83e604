"""A setting names a repository of the hub unless its text is a path or exists on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.hub_names import (
    DatasetName,
    ModelName,
    dataset_name,
    dataset_or_path,
    is_name,
    model_name,
    model_or_path,
    shadowed,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", ModelName("org/name")),
        ("org/name@main", ModelName("org/name", "main")),
        ("Org-1/na.me_2@refs/pr/3", ModelName("Org-1/na.me_2", "refs/pr/3")),
        ("org/model-0.5B", ModelName("org/model-0.5B")),
    ],
)
def test_a_model_is_named_with_or_without_a_revision(text: str, name: ModelName) -> None:
    assert model_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/data", DatasetName("org/data")),
        ("org/data:test", DatasetName("org/data", split="test")),
        ("org/data/main", DatasetName("org/data", "main")),
        ("org/data/main:test@v1", DatasetName("org/data", "main", "test", "v1")),
        ("org/data@refs/convert/parquet", DatasetName("org/data", revision="refs/convert/parquet")),
        ("org/data/a/b:x", DatasetName("org/data", "a/b", "x")),
    ],
)
def test_a_dataset_is_named_with_subset_split_and_revision(text: str, name: DatasetName) -> None:
    assert dataset_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["name", "./org/name", "/org/name", "~/name", "org/name/", "org//name", "../org", "org/..",
     "org/config.json", "org/name@", "org/name@a b", "org/name@../../x", "org/na me", "a/b/c", ""],
)  # fmt: skip
def test_other_texts_name_no_model(text: str) -> None:
    assert model_name(text) is None


@pytest.mark.parametrize(
    "text",
    ["data.jsonl", "data/rows.jsonl", "data/rows.jsonl.gz", "data/rows.PARQUET", "./org/data",
     "org/data:", "org/data/../../x", "org/data@../x", "org/data:a b", "a/b/rows.csv"],
)  # fmt: skip
def test_other_texts_name_no_dataset(text: str) -> None:
    assert dataset_name(text) is None


def test_what_exists_on_this_machine_wins_over_a_name(here: Path) -> None:
    assert is_name(Path(str(model_or_path("org/name"))))
    (here / "org/name").mkdir(parents=True)
    assert model_or_path("org/name") == here / "org/name"
    assert dataset_or_path("org/name") == here / "org/name"
    assert is_name(Path(str(model_or_path("org/name@main"))))


def test_a_text_with_a_dot_before_it_is_a_path_although_nothing_is_there(here: Path) -> None:
    assert model_or_path("./org/name") == here / "org/name"
    assert dataset_or_path("./org/data") == here / "org/data"


def test_a_path_that_a_name_could_mean_is_recognised(here: Path) -> None:
    assert shadowed(here / "org/name") == "org/name"
    assert shadowed(here / "org/rows.jsonl") is None
    assert shadowed(here / "name") is None
    assert shadowed(Path("/elsewhere/org/name")) is None


def test_values_of_other_types_are_left_to_be_refused() -> None:
    assert model_or_path(3) == 3
    assert dataset_or_path(None) is None
