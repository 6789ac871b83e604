"""Synthesis for a task that does not know its forks: where the base is unsure, what is right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DatasetConfig, DecoderConfig, StudyConfig
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.progress import Progress
from forkdiv.core.records import Example, Finish, Outcome, Problem
from forkdiv.forks.gaps import by_problem
from forkdiv.forks.synthesis import check, repair
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.sample.sample_sets import Request, Response
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.stack import BASE

GRAPHS = build(GraphBranchingConfig(valid=2))
GRADER = "tests.forks.test_synthesis_own:leads_to_the_goal"


def leads_to_the_goal(answer: str, text: str) -> bool:
    """The grader of the file below, whose answers hold the graph."""
    problem = Problem("own", "train", "", "", json.loads(answer))
    return GRAPHS.verify(problem, text).outcome is Outcome.CORRECT


@dataclass
class GoesOn:
    """Goes on from the prefix to every end in turn: right arms, the wrong one, nonsense."""

    asked: list[Request] = field(default_factory=list)

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response]:
        for request in requests:
            self.asked.append(request)
            facts = json.loads(request.problem.facts["answer"])
            whole = Problem("own", "train", "", "", facts)
            texts = [trace.text for trace in GRAPHS.solutions(whole)]
            ends = [
                text[len(request.prefix) :] for text in texts if text.startswith(request.prefix)
            ]
            ends += [" ?", ""]
            drawn = [((), ends[i % len(ends)], Finish.STOP.value) for i in range(request.n)]
            yield Response(request, drawn)

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        return nullcontext("there is none")

    def tokens_drawn(self) -> None:
        return None


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    """Forty graph problems as a file of the user's, one of two right arms shown for each."""
    path = tmp_path / "graphs.jsonl"
    lines = [
        {"prompt": row.prompt, "completion": row.response, "answer": row.facts}
        for row in GRAPHS.sft_examples(DatasetConfig(examples=40))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = f"task={{kind: file, train: {path}, grader: '{GRADER}'}}"
    return load(None, [task, "dataset.synthesis=samples", "synthesis.samples=8"])


def training_examples(study: StudyConfig) -> list[Example]:
    return list(build(study.task).sft_examples(study.dataset))


def repaired(study: StudyConfig, root: Path, *more: str) -> tuple[list[Example], GoesOn, str]:
    sampler = GoesOn()
    kept, report = repair(
        study,
        build(study.task),
        training_examples(study),
        open_checkpoint(BASE),
        sampler,
        Progress(root / "progress.jsonl"),
    )
    return kept, sampler, report.sentence()


def test_samples_are_drawn_at_forks_of_high_entropy_and_correct_new_ones_kept(
    study: StudyConfig, tmp_path: Path
) -> None:
    before = training_examples(study)
    kept, sampler, sentence = repaired(study, tmp_path)
    assert len(kept) == len(before), "the budget is the size of the data"
    starts = {row.problem_id: row.response.split()[0] for row in before}
    # the only place at which the base is unsure is the first step
    assert {request.prefix for request in sampler.asked} <= set(starts.values())
    assert len(sampler.asked) == len(before)
    new = {(row.problem_id, row.response) for row in kept} - {
        (row.problem_id, row.response) for row in before
    }
    assert new
    for row in kept:
        assert leads_to_the_goal(json.loads(row.facts)["answer"], row.response)
    firsts = [[row.response.split()[1] for row in rows] for rows in by_problem(kept).values()]
    assert sum(len(set(shown)) == 2 for shown in firsts) >= len(new) - 1
    assert sentence.startswith("forks with a second branch shown: 0.0% before, ")


def test_listed_solutions_and_ungraded_files_are_refused(study: StudyConfig) -> None:
    task = build(study.task)
    with pytest.raises(UserError, match="cannot list its solutions"):
        check(task, "enumerator")
    ungraded = build(study.task.model_copy(update={"grader": "none"}))
    with pytest.raises(UserError, match="a grader is needed to"):
        check(ungraded, "samples")


def test_a_grader_that_raises_ends_the_repair(study: StudyConfig, tmp_path: Path) -> None:
    task = study.task.model_copy(update={"grader": "tests.forks.test_synthesis_own:raises"})
    rows = training_examples(study)
    broken = study.model_copy(update={"task": task})
    with pytest.raises(InvalidResult, match="the grader failed"):
        repair(
            broken,
            build(task),
            rows,
            open_checkpoint(BASE),
            GoesOn(),
            Progress(tmp_path / "progress.jsonl"),
        )


def raises(answer: str, text: str) -> bool:
    raise OSError("the grader is ill")
