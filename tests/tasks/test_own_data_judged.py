"""Rows are judged by the grader before the first is used: bad ones are named or left out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.errors import UserError
from forkdiv.core.records import Example, Outcome, Verdict
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.checked import read_rows
from forkdiv.tasks.own_data.config import ColumnsConfig
from forkdiv.tasks.own_data.judged import judge
from tests.tasks.own_data import (
    SUMS,
    TEST_SUMS,
    USUAL,
    examples,
    prompts,
    sum_row,
    task,
    write,
)

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no answer in it": (
        {"question": "5?", "solution": "five"},
        "line 2: the grader hash cannot read its completion: ",
    ),
    "another answer": (
        sum_row(1, solution="#### 3"),
        "line 2: the grader hash reads '3' from its completion, not the answer '2' (it has the "
        "prompt of line 1)",
    ),
    "another subset": (sum_row(1, solution="#### 2", subset="b"), "the subset is 'b', not 'a'"),
    "a reserved subset": (sum_row(7, subset="all"), "the subset 'all' is reserved"),
    "a malformed row": (sum_row(7, solution=""), "line 2: empty completion"),
    "repeated": (sum_row(1), "line 2: is a duplicate of line 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_study_does_not_start_on_bad_rows_unless_they_may_be_skipped(
    tmp_path: Path, name: str
) -> None:
    bad, reason = BAD[name]
    rows = [{"subset": "a", **row} for row in (sum_row(1), bad, sum_row(2))]
    with pytest.raises(UserError, match=r"1 of 3 rows cannot be used: test\.jsonl line 2: ") as no:
        task(tmp_path, test=rows).heldout("test")
    assert reason in str(no.value) and "task.on_bad_row=skip" in str(no.value)
    own = task(tmp_path, test=rows, on_bad_row="skip")
    assert {problem.prompt for problem in own.heldout("test")} == {
        "What is 1 + 1?",
        "What is 2 + 2?",
    }
    (note,) = [note for note in own.notes if "skipped" in note]
    assert reason in note and "1 of 3 rows" in note


def test_answers_to_one_prompt_that_differ_are_named(tmp_path: Path) -> None:
    rows = [{"question": "5?", "answer": answer} for answer in ("5", "5.0", "6")]
    with pytest.raises(UserError, match=r"1 of 3 .* line 3: the answer is '6', not '5'.*line 1"):
        task(tmp_path, test=rows, grader="numeric").heldout("test")


def test_a_completion_that_contradicts_its_answer_is_not_trained_on(tmp_path: Path) -> None:
    rows = [sum_row(1, answer="2"), sum_row(2, answer="5")]
    with pytest.raises(UserError, match=r"1 of 2 .* line 2: .* reads '4' .*, not the answer '5'"):
        examples(task(tmp_path, train=rows))


def test_a_completion_in_which_no_answer_is_found_is_not_trained_on(tmp_path: Path) -> None:
    rows = [sum_row(1, answer="2"), sum_row(2, solution="four", answer="4")]
    with pytest.raises(UserError, match="line 2: the grader hash judges its completion unparsable"):
        examples(task(tmp_path, train=rows))


def test_only_the_answers_of_a_test_file_count_and_its_other_completions_are_named(
    tmp_path: Path,
) -> None:
    rows = [sum_row(1, answer="2"), sum_row(2, answer="5"), sum_row(3, solution="six", answer="6")]
    own = task(tmp_path, test=rows)
    answers = {problem.prompt: problem.facts["answer"] for problem in own.heldout("test")}
    assert answers == {"What is 1 + 1?": "2", "What is 2 + 2?": "5", "What is 3 + 3?": "6"}
    assert [len(own.solutions(problem)) for problem in own.heldout("test")].count(1) == 1
    (note,) = [note for note in own.notes if "graded by their answer" in note]
    assert own.warnings == (note,)
    assert note.startswith("2 of 3 rows of test.jsonl are graded by their answer")
    assert "line 2: the grader hash reads '4' from its completion, not the answer '5'" in note
    with pytest.raises(UserError, match="line 1: the grader hash cannot read its completion"):
        task(tmp_path, test=[{"question": "4?", "solution": "four"}]).heldout("test")


def test_a_field_inside_a_column_is_named_by_its_path(tmp_path: Path) -> None:
    row = {"question": "1 + 1?", "gold": {"texts": ["2", "two"]}}
    columns = ColumnsConfig(answer="gold.texts[0]")
    (problem,) = task(tmp_path, test=[row], grader="numeric", columns=columns).heldout("test")
    assert problem.facts["answer"] == "2"
    with pytest.raises(UserError, match=r"line 1: has no field 'gold.texts\[2\]'"):
        task(tmp_path, test=[row], columns=ColumnsConfig(answer="gold.texts[2]")).heldout("test")
    dotted = [{"question": "1 + 1?", "gold.texts": "2", "gold": {"texts": "3"}}]
    columns = ColumnsConfig(answer="gold.texts")
    (problem,) = task(tmp_path, test=dotted, grader="numeric", columns=columns).heldout("test")
    assert problem.facts["answer"] == "2"


def test_a_column_of_lists_is_refused_with_the_field_to_name(tmp_path: Path) -> None:
    row = {"question": "1 + 1?", "answer": ["2", "two"]}
    with pytest.raises(UserError, match=r"task.columns.answer=answer\[0\] or .*answer\[1\]"):
        task(tmp_path, test=[row], grader="numeric").heldout("test")
    row = {"question": "1 + 1?", "choices": ["2", "3"], "answerKey": "A"}
    with pytest.raises(UserError, match=r"for example task\.columns\.answer=answerKey"):
        task(tmp_path, test=[row], grader="choice").heldout("test")


def test_a_wrong_column_of_answers_can_be_replaced_by_the_completions(tmp_path: Path) -> None:
    rows = [sum_row(1000 + i, answer="2") for i in range(3)]  # cut at the comma of 2,000
    columns = ColumnsConfig(completion="solution", answer="solution")
    assert len(task(tmp_path, test=rows, columns=columns).heldout("test")) == 3


def test_a_grader_that_reads_no_references_out_of_solutions_needs_answers(tmp_path: Path) -> None:
    row = {**sum_row(1), "solution": "One and one more are 2."}
    with pytest.raises(UserError, match="line 1: the grader numeric cannot read its completion: "):
        task(tmp_path, test=[row], grader="numeric").heldout("test")
    assert task(tmp_path, test=[{**row, "answer": 2}], grader="numeric").heldout("test")


def test_answers_that_only_the_grader_finds_equal_are_one_answer(tmp_path: Path) -> None:
    rows = [{"question": "half?", "answer": answer} for answer in ("1/2", "0.5", ".25")]
    with pytest.raises(UserError, match=r"1 of 3 rows .* line 3: the answer is '1/4', not '1/2'"):
        task(tmp_path, test=rows, grader="numeric").heldout("test")


class Marked:
    """A grader that reads a mark, and does not take an answer without one."""

    name = "marked"
    canaries = ()

    def identity(self) -> dict[str, Any]:
        return {}

    def reference(self, answer: str) -> str:
        if "####" not in answer:
            raise ValueError("no mark")
        return answer.rpartition("####")[2].strip()

    def grade(self, answer: str, text: str) -> Verdict:
        same = self.reference(answer) == self.reference(text)
        return Verdict(Outcome.CORRECT if same else Outcome.WRONG)


def test_the_reference_is_a_solutions_answer_alone_where_the_grader_takes_that(
    tmp_path: Path,
) -> None:
    read = read_rows(write(tmp_path / "rows.jsonl", [sum_row(3)]), "auto", USUAL)
    assert [row.answer for row in judge(read, build_grader("hash")).rows] == ["6"]
    assert [row.answer for row in judge(read, Marked()).rows] == ["3 + 3\n#### 6"]


def slow(answer: str, text: str) -> bool:
    """A grader of one's own, as a config names it."""
    raise TimeoutError("a minute")


def test_a_row_on_which_the_grader_takes_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: the grader .*:slow took too long: a minute"):
        task(tmp_path, test=[sum_row(1)], grader=f"{__name__}:slow").heldout("test")


def test_rows_are_judged_alike_off_the_main_thread(tmp_path: Path) -> None:
    rows = [sum_row(i, answer=2 * (i % 3)) for i in range(5)]
    read = read_rows(write(tmp_path / "rows.jsonl", rows), "auto", USUAL)
    here = judge(read, build_grader("hash"))
    assert [row.line for row in here.rows] == [1, 2, 3]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(judge, read, build_grader("hash")).result() == here


def test_a_grader_that_needs_the_main_thread_judges_from_another(tmp_path: Path) -> None:
    # Ray Tune runs trials on threads, and math-verify keeps time with signals
    own = task(tmp_path, test=[{"question": "half?", "solution": "\\boxed{0.5}"}], grader="math")
    with ThreadPoolExecutor(1) as pool:
        (problem,) = pool.submit(own.heldout, "test").result()
    assert own.verify(problem, "It is $\\frac{1}{2}$").outcome is Outcome.CORRECT


def test_a_rejected_solution_is_not_what_others_are_compared_with(tmp_path: Path) -> None:
    rows = [sum_row(1, solution="#### 3", answer="2"), sum_row(1, answer="2")]
    own = task(tmp_path, test=rows, on_bad_row="skip")
    (problem,) = own.heldout("test")
    assert [solution.text for solution in own.solutions(problem)] == ["1 + 1\n#### 2"]


def test_a_problem_in_both_files_is_refused_or_left_out_of_training(tmp_path: Path) -> None:
    test = [*TEST_SUMS, SUMS[3]]
    message = r"train\.jsonl line 4: has the same prompt as line 41 of task\.test "
    with pytest.raises(UserError, match=message):
        task(tmp_path, SUMS, test).heldout("test")
    own = task(tmp_path, SUMS, test, on_bad_row="skip")
    assert SUMS[3]["question"] in prompts(own, "test")
    assert SUMS[3]["question"] not in {example.prompt for example in examples(own)}
    assert any("skipped: 1 of 200 rows" in note for note in own.notes)


def test_bad_rows_of_both_files_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.jsonl line 2: .*; 1 of 2 rows .*test\.jsonl line"):
        task(tmp_path, [SUMS[0], {}], [{}, SUMS[1]]).heldout("test")


def test_an_unknown_grader_is_refused_before_any_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="grader"):
        task(tmp_path, test=[{}], grader="vibes")


# --- graders of users -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("import sys; sys.exit(0)", r"cannot be loaded: .* ends the program when it is imported"),
        ("def f(a, b): raise SystemExit(0)", r"line 1: the grader {}:f raised SystemExit"),
        ("def f(a, b): return 1 / 0", r"line 1: the grader {}:f raised ZeroDivisionError"),
        ("def f(a, b): return 'yes'", r"line 1: the grader {}:f raised TypeError: .*must return"),
    ],
)
@pytest.mark.parametrize("in_thread", [False, True], ids=["main", "thread"])
def test_a_grader_that_exits_or_raises_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, refusal: str, in_thread: bool
) -> None:
    module = f"grader_{abs(hash((code, in_thread)))}"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def use() -> list[Example]:
        return examples(task(tmp_path, train=SUMS[:9], grader=f"{module}:f"))

    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(UserError, match=refusal.format(module)),
    ):
        _ = pool.submit(use).result() if in_thread else use()
