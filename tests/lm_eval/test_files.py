"""Which samples files of a folder are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forkdiv.core.errors import UserError
from forkdiv.lm_eval.files import find
from tests.lm_eval.samples_files import REAL, line, measure, real, study, values, written


def test_the_newest_file_of_every_task_in_a_folder_is_read(tmp_path: Path) -> None:
    for task, date in (("a_b", "2026-01-02"), ("a_b", "2026-01-10"), ("c", "2025-03-01")):
        written(tmp_path / f"samples_{task}_{date}T00-00-00.1.jsonl", [line(0, ["yes"])])
    (tmp_path / "results_2026-01-10T00-00-00.1.json").write_text("{}")
    found = find([tmp_path])
    assert [(one.task, one.date[:10]) for one in found] == [
        ("a_b", "2026-01-10"),
        ("c", "2025-03-01"),
    ]


def test_the_output_folder_of_one_model_is_found_inside(tmp_path: Path) -> None:
    shutil.copytree(REAL / "base", tmp_path / "base")
    assert {one.task for one in find([tmp_path])} == {"graphs", "graphs_each"}
    shutil.copytree(REAL / "tuned", tmp_path / "tuned")
    with pytest.raises(UserError, match=r"several models: got 2 .*base, tuned"):
        find([tmp_path])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("results_2026-01-10T00-00-00.1.json", "a results file contains no samples"),
        ("nowhere.jsonl", "the samples path does not exist"),
        ("empty", "a folder contains no samples"),
    ],
)
def test_a_path_without_samples_is_refused(tmp_path: Path, name: str, wrong: str) -> None:
    (tmp_path / "results_2026-01-10T00-00-00.1.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=wrong):
        find([tmp_path / name])


def test_a_file_listed_twice_is_refused() -> None:
    with pytest.raises(UserError, match="listed twice"):
        find([real("base", "graphs"), real("base", "graphs")])


def test_tasks_of_one_folder_are_subsets_of_the_problems(tmp_path: Path) -> None:
    for task, right_ones in (("easy", 4), ("hard", 1)):
        texts = ["yes"] * right_ones + ["no"] * (4 - right_ones)
        rows = [line(at, texts, doc={"question": f"{task} {at}"}) for at in range(3)]
        written(tmp_path / f"samples_{task}_2026-01-01T00-00-00.1.jsonl", rows)
    done = measure(study(), [tmp_path], [])
    assert values(done, subset="easy")["1"] == 1.0
    assert values(done, subset="hard")["1"] == pytest.approx(0.25)
    assert values(done)["1"] == pytest.approx(0.625)
