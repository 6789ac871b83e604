"""Exact probabilities at the forks, where a task enumerates its solutions and knows their forks.

For every fork that a correct response meets: the model's probability of each branch after the
beginning of the response, teacher-forced under the saved checkpoint. Together with the exact
probability of a correct response it says where coverage was lost: at the forks or elsewhere.

A fork's probabilities are conditional on what comes before it: after the start's name, on having
begun with the start. Responses told from the target back meet no fork, and which way to tell is
none either. So q, the probability of choosing right at all forks were everything between them
certain, deals a response's first token over start and target as the model deals it, and takes
what is told from the target back for certain. Without such responses it is the sum over the
solutions of the product of the probabilities of their branches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forkdiv.core.fingerprint import Identity
from forkdiv.core.records import Problem
from forkdiv.core.store import Artifact, Store
from forkdiv.coverage import exact
from forkdiv.coverage.fork_summary import ForkNode, ForkProbabilities
from forkdiv.coverage.fork_tree import ForkTree
from forkdiv.coverage.stats import Floats
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.prompting import ids_with_offsets, prompt_ids
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORKS = "forks.json"


def applies(task: Task, problems: Sequence[Problem]) -> bool:
    """Whether the task lists every correct response, knows the forks of each, and has some."""
    if not task.exhaustive or not problems:
        return False
    first = problems[0]
    found = [task.forks(first, trace.text) for trace in task.solutions(first)]
    return any(found) and None not in found


def identity(evaluation: Evaluation, checkpoint: Checkpoint) -> Identity:
    """What decides exact probabilities decides those at the forks, and nothing else does."""
    return replace(exact.identity(evaluation, checkpoint), stage="forks")


def obtain(store: Store, evaluation: Evaluation, checkpoint: Checkpoint) -> Artifact:
    """Each problem's probabilities at its forks under the decoder.

    Raises ValueError for a decoder that truncates: its distribution is not the model's; and as
    `probabilities` does.
    """
    exact.check_whole(evaluation.decoder)

    def make(folder: Path) -> None:
        found = probabilities(evaluation, checkpoint)
        nodes = [asdict(node) for node in found.nodes]
        text = json.dumps({"p": found.p.tolist(), "q": found.q.tolist(), "nodes": nodes})
        (folder / FORKS).write_text(text, encoding="utf-8")

    return store.obtain(identity(evaluation, checkpoint), make)


def read(artifact: Artifact) -> ForkProbabilities:
    found = json.loads((artifact.path / FORKS).read_text(encoding="utf-8"))
    lists = ("branches", "valid", "chances")
    nodes = (
        ForkNode(**node | {name: tuple(node[name]) for name in lists}) for node in found["nodes"]
    )
    return ForkProbabilities(np.asarray(found["p"]), np.asarray(found["q"]), tuple(nodes))


def probabilities(evaluation: Evaluation, checkpoint: Checkpoint) -> ForkProbabilities:
    """At the forks of every problem. Raises ValueError where the task cannot list every correct
    response or does not know its forks, UserError where the tokenizer cannot tell the branches
    of a fork apart."""
    task, problems = evaluation.task, evaluation.problems
    if not applies(task, problems):
        raise ValueError(f"{task.config.kind} does not list every correct response with its forks")
    model, tokenizer = exact.load(checkpoint, evaluation.decoder)
    trees = [_tree(task, problem, tokenizer) for problem in problems]
    heads = [prompt_ids(tokenizer, problem.prompt, evaluation.prompt) for problem in problems]
    steps = _steps(model, heads, trees, evaluation.decoder.temperature)
    p, q, nodes = [], [], []
    for problem, tree in enumerate(trees):
        logs, steps = steps[: len(tree.steps)], steps[len(tree.steps) :]
        known = dict(zip(tree.steps, logs.tolist(), strict=True))
        correct, right_at_forks, found = tree.read(problem, known)
        p.append(correct)
        q.append(right_at_forks)
        nodes += found
    return ForkProbabilities(np.array(p), np.array(q), tuple(nodes))


def _tree(task: Task, problem: Problem, tokenizer: PreTrainedTokenizerBase) -> ForkTree:
    solutions = []
    for trace in task.solutions(problem):
        forks = task.forks(problem, trace.text)
        if forks is None:
            raise ValueError(f"the task does not know the forks of {trace.text!r}, {problem.id}")
        solutions.append((trace.text, forks))
    placed = cache(partial(ids_with_offsets, tokenizer))
    return ForkTree.grown(solutions, placed, tokenizer.eos_token_id)


def _steps(
    model: PreTrainedModel,
    heads: Sequence[list[int]],
    trees: Sequence[ForkTree],
    temperature: float,
) -> Floats:
    """The log-probability of every step of every tree, one tree's after the other's."""
    from forkdiv.models.loading import token_logprobs

    sequences: list[list[int]] = []
    asked = []
    for head, tree in zip(heads, trees, strict=True):
        passed: dict[tuple[int, ...], int] = {}  # each path by a sequence that begins with it
        for run in tree.runs:
            passed |= {run[:i]: len(sequences) for i in range(len(run) + 1)}
            sequences.append([*head, *run])
        asked += [(passed[step[:-1]], len(head) + len(step) - 1, step[-1]) for step in tree.steps]
    return token_logprobs(model, sequences, asked, [temperature])[:, 0]
