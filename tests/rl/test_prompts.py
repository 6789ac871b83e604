"""Prompts are those that fine-tuning has not seen, in an order that only the seed decides."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from forkdiv.core.config.rl import RlConfig
from forkdiv.core.config.study import DatasetConfig, StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.rl.prompts import Schedule, problems
from forkdiv.tasks.base import Task
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build

GRAPHS = build(StudyConfig().task)
SMALL = RlConfig(iterations=5, episodes=16, group=4)


def test_no_graph_of_the_fine_tuning_data_is_asked_whatever_its_signs() -> None:
    data = DatasetConfig(examples=60, fork_density=0.5)
    found = problems(GRAPHS, data, SMALL)
    used = {frozenset(map(tuple, json.loads(e.facts)["edges"])) for e in GRAPHS.sft_examples(data)}
    asked = {frozenset(map(tuple, problem.facts["edges"])) for problem in found}
    assert len(used) == 60
    assert len(found) == len(asked) == 20
    assert not used & asked
    # and would have been, without the setting
    every = problems(GRAPHS, data, SMALL.model_copy(update={"unseen": False}))
    assert used & {frozenset(map(tuple, problem.facts["edges"])) for problem in every}
    assert Counter(problem.subset for problem in every) == {"signed": 10, "unsigned": 10}


def test_every_prompt_is_asked_once_before_any_is_asked_again() -> None:
    config = SMALL.model_copy(update={"prompts": 6, "iterations": 6})
    schedule = Schedule(problems(GRAPHS, DatasetConfig(examples=20), config), config)
    order = [problem.id for number in range(1, 7) for problem in schedule.at(number)]
    assert len(order) == 24
    rounds = [order[first : first + 6] for first in range(0, 24, 6)]
    assert all(len(set(each)) == 6 for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    other = Schedule(schedule.problems, config.model_copy(update={"seed": 1}))
    assert [p.id for p in other.at(1)] != [p.id for p in schedule.at(1)]


def test_seeds_differ_between_groups_and_do_not_wrap_around() -> None:
    config = SMALL.model_copy(update={"group": 3})
    schedule = Schedule([], config)
    seeds = [schedule.seed("run", number, slot) for number in range(1, 300) for slot in range(16)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) + config.group <= 2**32
    assert schedule.seed("another", 1, 0) != schedule.seed("run", 1, 0)


def own_data(tmp_path: Path, rows: int = 40) -> Task:
    file = tmp_path / "rows.jsonl"
    lines = ({"question": f"1+{i}=", "solution": f"#### {1 + i}"} for i in range(rows))
    file.write_text("".join(json.dumps(row) + "\n" for row in lines))
    return build(FileConfig(kind="file", train=file, grader="hash"))


def test_a_file_that_fine_tuning_used_whole_is_refused_with_what_to_do(tmp_path: Path) -> None:
    task = own_data(tmp_path)
    with pytest.raises(UserError, match=r"fine-tuning has used all .*rl.unseen=false"):
        problems(task, DatasetConfig(), SMALL)
    left = problems(task, DatasetConfig(examples=10), SMALL)
    assert len(left) == task.available("train") - 10
    both = problems(task, DatasetConfig(), SMALL.model_copy(update={"unseen": False}))
    assert len(both) == min(20, task.available("train"))


def test_more_prompts_than_there_are_is_refused(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"prompts": 50, "unseen": False})
    with pytest.raises(UserError, match=r"rl.prompts=50; allowed: up to \d+"):
        problems(own_data(tmp_path), DatasetConfig(), config)


def test_a_task_without_grader_or_training_problems_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    with pytest.raises(UserError, match="a grader is needed to give rewards"):
        problems(build(FileConfig(kind="file", train=file, grader="none")), DatasetConfig(), SMALL)
    with pytest.raises(UserError, match="no training problems to learn from"):
        problems(
            build(StudyConfig.model_validate({"task": {"kind": "short_facts"}}).task),
            DatasetConfig(),
            SMALL,
        )
