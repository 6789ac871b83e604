"""Own data as a task: splits that share no problem, and every solution in the files graded
correct."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DatasetConfig
from forkdiv.core.errors import UserError
from forkdiv.core.records import Outcome
from forkdiv.tasks.own_data.columns import prompt_id
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig
from forkdiv.tasks.own_data.task import WHOLE, OwnData
from forkdiv.tasks.registry import build
from tests.tasks.own_data import (
    SUMS,
    TEST_SUMS,
    Rows,
    examples,
    prompts,
    sum_row,
    task,
    write,
)

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
