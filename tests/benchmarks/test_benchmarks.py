"""Benchmarks by name: their published forms are read, others are told in one line."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forkdiv.benchmarks.base import Benchmark
from forkdiv.benchmarks.config import BenchmarkConfig
from forkdiv.benchmarks.registry import BENCHMARKS
from forkdiv.benchmarks.task import BenchmarkTask
from forkdiv.cli.listing import show_benchmarks
from forkdiv.core.config.load import load
from forkdiv.core.config.tasks import task_adapter
from forkdiv.core.errors import UserError
from forkdiv.core.records import Outcome
from forkdiv.tasks.registry import build
from tests.benchmarks.files import AIME, GSM8K, HUMANEVAL, MATH, MBPP, SANITIZED, Record, write
from tests.docs.pages import blocks

NAMES = ("aime24", "aime25", "gsm8k", "humaneval", "math-500", "mbpp")
FORMS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": GSM8K,
    "math-500": MATH,
    "aime24": AIME,
    "aime25": AIME,
    "humaneval": HUMANEVAL,
    "mbpp": MBPP,
}


def a_task(name: str, path: Path, *settings: str) -> BenchmarkTask:
    task = build(load(None, [f"task.benchmark={name}", f"task.test={path}", *settings]).task)
    assert isinstance(task, BenchmarkTask)
    return task


def test_every_shipped_benchmark_registers_itself_and_states_what_it_is() -> None:
    assert sorted(BENCHMARKS.names()) == sorted(NAMES)
    listed = show_benchmarks()
    for name in NAMES:
        benchmark = BENCHMARKS.get(name)
        assert benchmark.name == name and benchmark.source and benchmark.rows
        for stated in (benchmark.about, benchmark.licence, benchmark.source.repo):
            assert " ".join(stated.split()) in " ".join(listed.split())
        assert benchmark.link.endswith(benchmark.source.repo)
        assert re.fullmatch(r"[0-9a-f]{40}", benchmark.source.revision or "")


@pytest.mark.parametrize("wording", ["text", "chat"])
@pytest.mark.parametrize("name", FORMS)
def test_every_published_solution_is_correct_and_a_broken_one_is_not(
    name: str, wording: str, tmp_path: Path
) -> None:
    task = a_task(name, write(tmp_path, FORMS[name]), f"task.wording={wording}")
    problems = task.heldout("test")
    assert problems and not task.files["test"].rejected_completions
    for problem in problems:
        (solution,) = task.solutions(problem)
        assert task.verify(problem, solution.text).outcome is Outcome.CORRECT
        broken = re.sub(r"\d+", lambda match: str(int(match[0]) + 7), solution.text)
        broken = broken.replace("max(", "min(")
        assert task.verify(problem, broken).outcome is Outcome.WRONG, broken
        assert task.verify(problem, "").outcome is not Outcome.CORRECT


def test_columns_are_found_in_any_case_and_the_marked_answer_counts(tmp_path: Path) -> None:
    rows = [{"Question": "1,000 + 1?", "Solution": "so\n#### 1,001", "answer": "1"}]
    (problem,) = a_task("gsm8k", write(tmp_path, rows)).heldout("test")
    assert problem.facts["answer"] == "1,001"
    assert problem.prompt == "Question: 1,000 + 1?\nAnswer:"


def test_both_layouts_of_mbpp_are_read_and_task_id_decides_the_split(tmp_path: Path) -> None:
    for name, rows in (("full", MBPP), ("sanitized", SANITIZED)):
        task = a_task("mbpp", write(tmp_path, rows, f"{name}.jsonl"))
        ids = {problem.facts["id"] for problem in task.heldout("test")}
        assert ids == {"mbpp/11", "mbpp/12", "mbpp/510"}
        shown = [prompt for prompt, _ in task.shot_pool()]
        assert len(shown) == 2 and "add 2 to" in shown[0] and "add 3 to" in shown[1]


def test_one_file_of_mbpp_may_be_learnt_from_and_measured_on(tmp_path: Path) -> None:
    path = write(tmp_path, MBPP)
    task = a_task("mbpp", path, f"task.train={path}")
    assert {problem.facts["id"] for problem in task.heldout("test")} == (
        {"mbpp/11", "mbpp/12", "mbpp/510"}
    )
    learnt = {row.id for row in task.files["train"].rows}
    assert learnt == {"mbpp/2", "mbpp/3", "mbpp/511", "mbpp/600", "mbpp/974"}


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("gsm8k", MATH, "it has no column question.*the columns 'problem', 'solution'"),
        ("math-500", GSM8K, "another form than math-500|no column"),
        ("humaneval", MBPP, "no column prompt, test, entry_point"),
        ("mbpp", HUMANEVAL, "no column test_list, code"),
        ("mbpp", [{**MBPP[2], "task_id": "x"}], "task_id is 'x', not a whole number"),
        ("mbpp", [{**MBPP[2], "test_list": "assert 1"}], "tests is text, not a list"),
        ("aime24", [{**AIME[0], "Answer": "336^\\circ"}], "not a whole number from 0 to 999"),
        ("aime24", [{**AIME[0], "Answer": 1000}], "not a whole number from 0 to 999"),
        ("aime24", [{**AIME[0], "Answer": None}], "has no answer"),
        ("gsm8k", [{"question": "Capital?", "answer": "Paris"}], "'Paris', not a number"),
        ("humaneval", [{**HUMANEVAL[0], "entry_point": "third"}], "code that defines third"),
        ("humaneval", [{**HUMANEVAL[0], "test": "assert half(1)"}], "defines the function check"),
    ],
)
def test_a_file_of_another_version_is_told_in_one_line(
    name: str, rows: list[Record], told: str, tmp_path: Path
) -> None:
    if name == "math-500":
        rows = [{"problem": row["question"]} for row in rows]
    with pytest.raises(UserError, match=told) as refused:
        a_task(name, write(tmp_path, rows)).heldout("test")
    assert "\n" not in str(refused.value)
    assert "allowed: " in str(refused.value)


def test_a_part_is_noted_and_more_problems_than_published_are_refused(tmp_path: Path) -> None:
    part = a_task("gsm8k", write(tmp_path, GSM8K))
    assert part.warnings == part.notes[-1:]
    assert "7 of the 1,319 problems of gsm8k" in part.warnings[0]
    whole = [{**AIME[0], "Problem": f"Find {n}."} for n in range(30)]
    assert not a_task("aime25", write(tmp_path, whole, "whole.jsonl")).warnings
    more = write(tmp_path, [*whole, {**AIME[0], "Problem": "One more."}], "more.jsonl")
    with pytest.raises(UserError, match=r"more problems than aime25: got 31.*allowed: 30 p"):
        a_task("aime25", more).heldout("test")


def test_a_reference_that_fails_its_own_tests_is_named(tmp_path: Path) -> None:
    rows = [HUMANEVAL[0], {**HUMANEVAL[1], "canonical_solution": "    return 0\n"}]
    task = a_task("humaneval", write(tmp_path, rows))
    assert any(
        "line 2: the grader unit_tests judges its completion wrong" in w for w in task.warnings
    )
    assert len(task.heldout("test")) == 2, "it is measured, by its tests"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["task.benchmark=gsm9k"], "unknown benchmark: got 'gsm9k'; allowed: .*gsm8k"),
        (["task.benchmark=json:loads"], "the benchmark cannot be loaded.*which is function"),
        (["task.benchmark=no_such_module:X"], "the benchmark cannot be loaded"),
        (["task.benchmark=gsm8k", "task.columns.answer=a"], "columns cannot be set"),
        (["task.benchmark=gsm8k", "task.wording=poem"], "task.wording"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(settings: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as refused:
        load(None, settings)
    assert "\n" not in str(refused.value)


def test_wording_grader_and_version_are_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, GSM8K)
    asked = a_task("gsm8k", path)
    other = [
        a_task("gsm8k", path, "task.wording=chat"),
        a_task("gsm8k", path, "task.grader=hash"),
        a_task("gsm8k", write(tmp_path, GSM8K[1:], "fewer.jsonl")),
    ]
    identities = [json.dumps(task.identity(), default=str) for task in (asked, *other)]
    monkeypatch.setattr(type(asked.benchmark), "version", 2)
    identities.append(json.dumps(asked.identity(), default=str))
    assert len(set(identities)) == 5
    assert str(tmp_path) not in identities[0]


def test_the_config_survives_json(tmp_path: Path) -> None:
    task = load(None, ["task.benchmark=gsm8k", f"task.test={tmp_path}/a.jsonl"]).task
    assert isinstance(task, BenchmarkConfig)
    assert task.grader == "math"
    assert task_adapter.validate_json(task.model_dump_json()) == task


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    """The files that docs/benchmarks.md shows, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {}
    for block in blocks("docs/benchmarks.md"):
        if block.how == "file":
            files[block.detail] = tmp_path / block.detail
            files[block.detail].write_text(block.text)
    yield files
    sys.modules.pop("my_benchmarks", None)


def test_the_benchmark_that_the_page_adds_asks_and_grades(page: dict[str, Path]) -> None:
    task = a_task("my_benchmarks:SUMS", page["sums.jsonl"])
    assert isinstance(task.benchmark, Benchmark)
    prompts = {problem.prompt: problem for problem in task.heldout("test")}
    assert set(prompts) == {"Sum: 2 + 5 =", "Sum: 4 + 4 =", "Sum: 3 + 9 ="}
    twelve = prompts["Sum: 3 + 9 ="]
    assert task.verify(twelve, "It is 12.").outcome is Outcome.CORRECT
    assert task.verify(twelve, "It is 13.").outcome is Outcome.WRONG
    before = task.identity()
    page["my_benchmarks.py"].write_text(page["my_benchmarks.py"].read_text() + "\n# changed\n")
    assert task.identity() != before, "its source decides what it asks"


def test_the_part_of_gsm8k_that_the_page_shows_is_read(page: dict[str, Path]) -> None:
    assert len(a_task("gsm8k", page["gsm8k-part.jsonl"]).heldout("test")) == 4


def test_a_problem_has_no_field_that_its_json_lacks(tmp_path: Path) -> None:
    """The grading process gets problems as JSON."""
    (problem, _) = a_task("humaneval", write(tmp_path, HUMANEVAL)).heldout("test")
    written: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(problem)))
    assert written == dataclasses.asdict(problem)
