"""Own data as a task: rows judged before the first is used, splits that share no problem, and
every solution in the files graded correct."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Example, Outcome, Verdict
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.checked import read_rows
from forkdiv.tasks.own_data.columns import prompt_id
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig
from forkdiv.tasks.own_data.judged import judge
from forkdiv.tasks.own_data.task import WHOLE, OwnData
from forkdiv.tasks.registry import build

Rows = Sequence[Mapping[str, Any]]
USUAL = ColumnsConfig()


def sum_row(i: int, **more: Any) -> dict[str, Any]:
    return {"question": f"What is {i} + {i}?", "solution": f"{i} + {i}\n#### {2 * i}", **more}


SUMS = [sum_row(i) for i in range(200)]
TEST_SUMS = [sum_row(i) for i in range(1000, 1040)]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task(folder: Path, train: Rows = (), test: Rows = (), **settings: Any) -> OwnData:
    files = {
        role: write(folder / f"{role}.jsonl", rows)
        for role, rows in (("train", train), ("test", test))
        if rows
    }
    return OwnData(FileConfig(**{"grader": "hash", **files, **settings}))


def examples(own: OwnData, **config: Any) -> list[Example]:
    return list(own.sft_examples(DatasetConfig(**config)))


# --- problems, solutions and verdicts -----------------------------------------------------------


def test_a_row_is_a_problem_with_its_solution(tmp_path: Path) -> None:
    own = task(tmp_path, test=[sum_row(3)])
    (problem,) = own.heldout("test")
    assert (problem.prompt, problem.split, problem.subset) == ("What is 3 + 3?", "test", WHOLE)
    assert problem.id == prompt_id(problem.prompt)
    (solution,) = own.solutions(problem)
    assert (solution.text, solution.mode) == ("3 + 3\n#### 6", "")
    assert own.verify(problem, solution.text).outcome is Outcome.CORRECT
    assert own.verify(problem, "So it is #### 6").outcome is Outcome.CORRECT
    assert own.verify(problem, "#### 7").outcome is Outcome.WRONG
    assert own.forks(problem, solution.text) is None
    assert not own.exhaustive


def test_an_answer_column_is_what_responses_are_graded_by(tmp_path: Path) -> None:
    own = task(tmp_path, test=[{"question": "2+2?", "answer": 4, "id": 17}], grader="numeric")
    (problem,) = own.heldout("test")
    assert problem.facts == {"answer": "4", "id": "17"}
    assert own.solutions(problem) == []
    assert own.verify(problem, "4").outcome is Outcome.CORRECT
    assert own.verify(problem, "5").outcome is Outcome.WRONG


def test_rows_with_equal_prompts_are_solutions_of_one_problem(tmp_path: Path) -> None:
    rows = [sum_row(i, solution=f"way {way}\n#### {2 * i}") for way in range(3) for i in range(5)]
    own = task(tmp_path, test=rows)
    problems = own.heldout("test")
    assert len(problems) == own.available("test") == own.sizes["test"] == 5
    for problem in problems:
        texts = [solution.text for solution in own.solutions(problem)]
        assert [text.split("\n")[0] for text in texts] == ["way 0", "way 1", "way 2"]
        assert all(own.verify(problem, text).outcome is Outcome.CORRECT for text in texts)


def test_conversations_are_problems(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    own = task(tmp_path, test=[{"messages": turns}], grader="exact")
    (problem,) = own.heldout("test")
    assert "Be brief." in problem.prompt and "4" not in problem.prompt.split("2+2?")[1]
    assert own.verify(problem, "4").outcome is Outcome.CORRECT


def test_subsets_are_those_of_the_heldout_problems_in_whatever_shares(tmp_path: Path) -> None:
    train = [sum_row(i, subset="taught") for i in range(5)]
    test = [sum_row(100 + i, subset="hard" if i % 3 else "easy") for i in range(7)]
    own = task(tmp_path, train, test)
    assert own.subsets[-2:] == ("easy", "hard")
    assert [one.subset for one in own.heldout("test")].count("easy") == 3
    assert {example.subset for example in examples(own)} == {"taught"}


def test_a_file_may_lack_the_named_column_that_only_the_other_needs(tmp_path: Path) -> None:
    train = [{"q": f"{i}?", "how": f"#### {i}"} for i in range(30)]
    test = [{"q": f"{i}?", "gold": i, "part": "a"} for i in range(30, 40)]
    columns = ColumnsConfig(prompt="q", completion="how", answer="gold", subset="part")
    own = task(tmp_path, train, test, columns=columns)
    assert own.available("test") == 10 and own.subsets == (WHOLE, "a")
    with pytest.raises(
        UserError, match=r"task\.columns\.answer names a column that .*train\.jsonl"
    ):
        task(tmp_path, train, columns=columns).heldout("test")


# --- splits -------------------------------------------------------------------------------------


def prompts(own: OwnData, split: str) -> set[str]:
    return {problem.prompt for problem in own.heldout(split)} if own.available(split) else set()


@pytest.mark.parametrize("test", [(), TEST_SUMS], ids=["train alone", "both"])
def test_every_problem_is_in_one_split(tmp_path: Path, test: Rows) -> None:
    own = task(tmp_path, SUMS, test)
    splits = {split: prompts(own, split) for split in ("train", "validation", "test", "pretrain")}
    assert splits["pretrain"] == set()
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 200 + len(test)
    assert {example.prompt for example in examples(own)} == splits["train"]
    if test:
        assert splits["test"] == {row["question"] for row in TEST_SUMS}


def test_a_tenth_is_validation_and_without_a_test_file_another_tenth_test(tmp_path: Path) -> None:
    rows = [sum_row(i) for i in range(2000)]
    alone, both = task(tmp_path, rows), task(tmp_path, rows, [sum_row(9999)])
    for own in (alone, both):
        assert own.available("validation") == pytest.approx(200, abs=67)  # 5 sigma
    assert alone.available("test") == pytest.approx(200, abs=67)
    assert prompts(alone, "validation") == prompts(both, "validation")
    assert prompts(both, "train") == prompts(alone, "train") | prompts(alone, "test")


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(40)), st.integers(1, 39))
def test_the_split_of_a_problem_depends_on_its_prompt_alone(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], count: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    whole = task(folder, [sum_row(i) for i in range(40)])
    part = task(folder, [sum_row(i) for i in order[:count]])
    held = {split: prompts(whole, split) for split in ("train", "validation", "test")}
    assert all(prompts(part, split) <= held[split] for split in held)


def test_a_test_file_alone_has_only_a_test_split(tmp_path: Path) -> None:
    own = task(tmp_path, test=TEST_SUMS)
    assert own.available("test") == 40
    for split in ("train", "validation"):
        with pytest.raises(UserError, match=f"no problems in the {split} split"):
            own.heldout(split)
    with pytest.raises(UserError, match=r"no completions to train on: got no task\.train;"):
        examples(own)


def test_a_longer_list_of_problems_begins_with_the_shorter(tmp_path: Path) -> None:
    own = task(tmp_path, test=TEST_SUMS)
    every = own.heldout("test")
    assert [own.heldout("test", count) for count in (1, 17, 40)] == [every[:1], every[:17], every]
    other = task(tmp_path, test=TEST_SUMS, seed=1).heldout("test")
    assert other != every and {one.id for one in other} == {one.id for one in every}
    with pytest.raises(UserError, match="got 41 requested; allowed: up to 40 with"):
        own.heldout("test", 41)


# --- fine-tuning examples -----------------------------------------------------------------------


def test_examples_of_one_problem_follow_one_another(tmp_path: Path) -> None:
    rows = [sum_row(i, solution=f"way {way}\n#### {2 * i}") for way in range(3) for i in range(50)]
    own = task(tmp_path, rows)
    found = examples(own)
    assert len(found) == own.sizes["train"] == 3 * own.available("train")
    runs = [id for id, _ in groupby(found, key=lambda one: one.problem_id)]
    assert len(runs) == len(set(runs)) == own.available("train")
    for one in found:
        assert (one.mode, one.forks, one.unsigned_forks, one.subset) == ("", 0, 0, WHOLE)
        assert one.response.endswith(f"#### {json.loads(one.facts)['answer']}")


def test_fewer_examples_are_the_first_of_more_and_another_seed_gives_others(tmp_path: Path) -> None:
    own = task(tmp_path, SUMS)
    every = examples(own)
    assert len(every) == own.available("train")
    assert examples(own, examples=20) == every[:20] == examples(own, examples=20)
    assert examples(own, examples=20, seed=1) != every[:20]
    with pytest.raises(UserError, match=rf"fewer examples than requested.*up to {len(every)}"):
        own.sft_examples(DatasetConfig(examples=len(every) + 1))


def test_a_limit_may_fall_within_a_problem(tmp_path: Path) -> None:
    rows = [sum_row(i, solution=f"way {way}\n#### {2 * i}") for way in range(3) for i in range(50)]
    own = task(tmp_path, rows)
    assert [len(examples(own, examples=n)) for n in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_rows_without_completion_are_not_trained_on_and_reported(tmp_path: Path) -> None:
    told = {"role": "assistant", "content": "x"}
    rows = [
        {"messages": [{"role": "user", "content": f"{i}?"}, told][: 1 + i % 2], "answer": "x"}
        for i in range(80)
    ]
    own = task(tmp_path, rows, grader="exact")
    missing = own.available("train") - len(examples(own))
    assert missing > 0
    assert f"{missing} rows of the train split have no completion to train on" in own.notes


def test_a_train_file_of_questions_and_answers_has_nothing_to_learn_from(tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "answer": i} for i in range(30)]
    own = task(tmp_path, rows, grader="numeric")
    with pytest.raises(UserError, match=r"no completions to train on.*task\.columns\.completion"):
        examples(own)
    named = task(tmp_path, [{"question": row["question"], "answer": "4"} for row in rows],
                 grader="numeric", columns=ColumnsConfig(completion="answer"))  # fmt: skip
    assert {example.response for example in examples(named)} == {"4"}


# --- bad rows -----------------------------------------------------------------------------------

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


# --- what the rest of forkdiv asks --------------------------------------------------------------


def test_notes_say_which_columns_were_read_and_how_the_data_was_split(tmp_path: Path) -> None:
    notes = task(tmp_path, SUMS, TEST_SUMS).notes
    assert notes == (
        "train.jsonl: columns 'question' as prompt, 'solution' as completion",
        "test.jsonl: columns 'question' as prompt, 'solution' as completion",
        "of the problems in train.jsonl a tenth is validation, by their prompt",
    )
    assert str(tmp_path) not in " ".join(notes)


def test_a_digest_is_of_content_and_role_not_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, same = task(tmp_path / "a", SUMS, TEST_SUMS), task(tmp_path / "b", SUMS, TEST_SUMS)
    assert one.digest == same.digest
    others = [task(tmp_path, TEST_SUMS, SUMS), task(tmp_path, SUMS), task(tmp_path, test=SUMS)]
    assert len({own.digest for own in (one, *others)}) == 4


def test_grading_reads_no_file(tmp_path: Path) -> None:
    own = task(tmp_path, test=TEST_SUMS)
    problem = own.heldout("test", 1)[0]
    (tmp_path / "test.jsonl").unlink()
    fresh = OwnData(own.config)
    for solution in own.solutions(problem):
        assert fresh.verify(problem, solution.text).outcome is Outcome.CORRECT
    for canary, text, outcome in fresh.canaries():
        assert fresh.verify(canary, text).outcome is outcome


@pytest.mark.parametrize("grader", ["exact", "numeric", "boxed", "hash", "choice"])
def test_every_grader_has_canaries_that_are_right_and_others_that_are_wrong(grader: str) -> None:
    own = OwnData(FileConfig(test=Path("unread.jsonl"), grader=grader))
    outcomes = [outcome for _, _, outcome in own.canaries()]
    assert outcomes.count(Outcome.CORRECT) and len(set(outcomes)) > 1


def test_the_config_of_a_study_leads_to_the_task(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", SUMS)
    config = tmp_path / "study.yaml"
    config.write_text(f"task: {{kind: file, train: {path}, grader: hash}}\n")
    own = build(load(config, ["task.columns.prompt=question"]).task)
    assert own.available("train") + own.available("validation") + own.available("test") == 200
    assert (own.vocabulary(), own.longest_response(), own.licence) == ([], None, "as its source")


def test_knobs_of_other_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.direction has no effect on this task"):
        task(tmp_path, SUMS).check_knobs(DatasetConfig(direction=0.5))


def test_the_task_loads_without_datasets_and_without_cluster_libraries() -> None:
    code = (
        "import sys, forkdiv.tasks.own_data.task;"
        " print(*(m.partition('.')[0] for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"datasets", "torch", "transformers", "ray", "pyarrow"}


def test_a_task_of_no_file_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs a data file.*task\.train, task\.test or both"):
        build(FileConfig())


def test_without_a_grader_there_is_data_to_learn_from_and_nothing_to_measure(
    tmp_path: Path,
) -> None:
    path = tmp_path / "poems.jsonl"
    path.write_text(
        "".join(f'{{"prompt": "line {n}", "completion": "rhyme"}}\n' for n in range(30))
    )
    task = build(FileConfig(train=path, grader="none"))
    assert len(list(task.training_examples())) == 30  # type: ignore[attr-defined]
    assert list(task.sft_examples(DatasetConfig()))
    with pytest.raises(UserError, match="a grader is needed to"):
        task.heldout("test")


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


# --- answers without completions ------------------------------------------------------------------

ANSWERS = [{"question": f"What is {i} + 1?", "answer": f"{i} + 1\n#### {i + 1}"} for i in range(40)]


@pytest.mark.parametrize("requested", [None, 3])
def test_answers_without_completions_are_refused_with_the_column_to_name(
    tmp_path: Path, requested: int | None
) -> None:
    own = task(tmp_path, train=ANSWERS)
    remedy = r"got 40 rows with answers only in .*; .* set task\.columns\.completion=answer"
    for use in (own.examples, own.sft_examples):
        with pytest.raises(UserError, match=remedy):
            use(DatasetConfig(examples=requested))
    named = task(tmp_path, train=ANSWERS, columns={"completion": "answer"})
    assert examples(named)[0].response in {row["answer"] for row in ANSWERS}


def test_an_audit_reads_answers_as_responses_if_there_are_no_completions(tmp_path: Path) -> None:
    for own in (task(tmp_path, train=ANSWERS), task(tmp_path, train=ANSWERS, grader="none")):
        assert [row.response for row in own.training_examples()] == [
            row["answer"] for row in ANSWERS
        ]
    assert "no row has a completion: 'answer' is read as the response" in own.notes
    both = task(tmp_path, train=SUMS, grader="none")
    assert not any("no row has" in note for note in both.notes)
