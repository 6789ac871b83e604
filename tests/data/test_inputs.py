"""Which data a verb is about: the settings' own, a dataset folder of ours, or a user's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DatasetConfig, StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.store import Store
from forkdiv.data import dataset, inputs
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build

TASK = GraphBranchingConfig(valid=2)


def study(root: Path, *settings: str) -> StudyConfig:
    return inputs.with_task_of_data(load(None, [f"place.root={root}", *settings]))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    config = DatasetConfig(examples=20, branch_coverage=2)
    return dataset.obtain_sft(Store(tmp_path / "store"), build(TASK), config).path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    lines = [{"question": f"What is {n} + 1?", "solution": f"{n} + 1 = {n + 1}"} for n in range(40)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_without_a_file_it_is_the_data_of_the_settings(tmp_path: Path) -> None:
    of_settings = study(tmp_path, "dataset.examples=7", "dataset.fork_density=1")
    found = list(inputs.examples(of_settings))
    assert found == list(build(of_settings.task).sft_examples(of_settings.dataset))


@pytest.mark.parametrize("name", ["", dataset.EXAMPLES])
def test_a_forkdiv_dataset_has_its_own_task(tmp_path: Path, ours: Path, name: str) -> None:
    of_folder = study(tmp_path, f"data={ours / name}")
    assert of_folder.task == TASK
    assert list(inputs.examples(of_folder)) == dataset.read(ours)


def test_a_users_file_is_read_whole_with_the_grader_of_the_settings(
    tmp_path: Path, theirs: Path
) -> None:
    of_file = study(tmp_path, f"data={theirs}", "task={kind: file, grader: numeric, test: x}")
    assert isinstance(of_file.task, FileConfig)
    assert (of_file.task.train, of_file.task.grader) == (theirs, "numeric")
    whole = study(tmp_path, f"data={theirs}")
    assert len(list(inputs.examples(whole))) == 40


def test_a_card_that_is_damaged_is_refused_with_its_folder(tmp_path: Path, ours: Path) -> None:
    card = json.loads((ours / dataset.CARD).read_text())
    for text in ("{", json.dumps({**card, "task": {"kind": "nothing"}}), "{}"):
        (ours / dataset.CARD).write_text(text)
        with pytest.raises(UserError, match="card of the dataset"):
            study(tmp_path, f"data={ours}")


def test_answers_that_are_worked_solutions_are_audited_without_any_setting(tmp_path: Path) -> None:
    path = tmp_path / "gsm.jsonl"
    lines = [{"question": f"{n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(9)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for settings in ([], ["task.columns.completion=answer"], ["task.grader=hash"]):
        of_file = inputs.with_task_of_data(load(None, [f"data={path}", *settings]), grades=False)
        responses = {example.response for example in inputs.examples(of_file)}
        assert responses == {line["answer"] for line in lines}


def test_an_audit_uses_a_grader_only_if_it_is_set(tmp_path: Path, theirs: Path) -> None:
    for settings, grader in (
        (["task.columns.prompt=question"], "none"),
        (["task.kind=file"], "none"),
        (["task.grader=numeric"], "numeric"),
    ):
        of_file = inputs.with_task_of_data(load(None, [f"data={theirs}", *settings]), grades=False)
        assert of_file.task.model_dump()["grader"] == grader
