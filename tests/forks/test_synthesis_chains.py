"""Synthesis on arithmetic chains: each fork of a forward trace has one right branch, so that the
decision point is where a model is unsure, and the second branch begins the reverse trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.errors import UserError
from forkdiv.core.progress import Progress
from forkdiv.core.records import Example, Finish
from forkdiv.forks import synthesis
from forkdiv.forks.gaps import by_problem, problem_of
from forkdiv.forks.sites import Site
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.sample.sample_sets import Request, Response
from forkdiv.tasks.arithmetic_chain import ArithmeticChain
from forkdiv.tasks.equations import System
from forkdiv.tasks.registry import build
from tests.stack import BASE

START = "1. "
STUDY = load(
    None,
    [
        "task={kind: arithmetic_chain, length: 3, high: 9}",
        "dataset={examples: 12, fork_density: 1.0, synthesis: samples}",
        "synthesis.samples=4",
    ],
)
TASK = build(STUDY.task)


class BothDirections:
    """Draws the forward and the reverse trace, a wrong answer and nothing."""

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response]:
        for request in requests:
            system = System(request.problem.facts)
            wrong = rf"{START}{system.target} = 1 + 1. The answer is \boxed{{999}}."
            texts = [system.forward(), system.reverse(), wrong, START]
            drawn = [((), text[len(request.prefix) :], Finish.STOP.value) for text in texts]
            yield Response(request, drawn)

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        return nullcontext("there is none")

    def tokens_drawn(self) -> None:
        return None


class UnsureAtTheFirstStep:
    """The decision points of a model that hesitates between the variables of the first step."""

    def __init__(self, path: Path, rows: Sequence[Example], *others: Any) -> None:
        self.sites = []
        for row, example in enumerate(rows):
            taken, at = example.response[len(START)], len(START)
            shown = {other.response[at]: 1 for other in rows if other.prompt == example.prompt}
            fork = example.problem_id
            branches = ("a", "b")
            self.sites.append(
                Site(row, fork, fork, at, taken, shown, branches, entropy=1.0, chances=(0.5, 0.5))
            )


def test_reverse_traces_replace_forward_ones_within_the_same_number_of_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "model_sites", UnsureAtTheFirstStep)
    before = list(TASK.sft_examples(STUDY.dataset))
    assert {row.mode for row in before} == {"forward"}
    progress = Progress(tmp_path / "progress.jsonl")
    base = open_checkpoint(BASE)
    kept, report = synthesis.repair(STUDY, TASK, before, base, BothDirections(), progress)
    assert len(kept) == len(before)
    groups = by_problem(kept)
    assert isinstance(TASK, ArithmeticChain)
    assert len(groups) == len(before) // 2
    for rows in groups.values():
        assert [row.mode for row in rows] == ["forward", "reverse"]
        assert [row.forks for row in rows] == [1, 0]
        assert TASK.check_trace(problem_of(rows[1]), rows[1].response) is None
    assert (report.covered_before, report.covered_after) == (0, len(groups))


def test_listed_solutions_are_refused_for_chains() -> None:
    with pytest.raises(UserError, match="cannot list its solutions"):
        synthesis.check(TASK, synthesis.ENUMERATOR)
