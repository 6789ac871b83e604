"""Exact probabilities at the forks, for tasks that enumerate solutions and know their forks.

For every fork in a correct response: the model's probability of each branch after the prefix of
the response, teacher-forced under the saved checkpoint. Together with the exact probability of a
correct response this shows where coverage was lost: at the forks or elsewhere.

The probabilities of a fork are conditional on its prefix. q is the probability of a right choice
at every fork if all other tokens were certain. Without responses in reversed order, q is the sum
over the solutions of the product of their branch probabilities. Responses in reversed order (from
the target back) contain no fork, and the choice of the order is not a fork either: q uses the
model's own probabilities of the first token, and counts the rest of a reversed response as certain.
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
from forkdiv.models.asked import OwnTokenizer
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.prompting import ids_with_offsets, prompt_ids
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FORKS = "forks.json"


def applies(task: Task, problems: Sequence[Problem]) -> bool:
    """Returns whether the task lists every correct response with its forks, and has forks."""
    if not task.exhaustive or not problems:
        return False
    first = problems[0]
    forks = [task.forks(first, trace.text) for trace in task.solutions(first)]
    return any(forks) and None not in forks


def identity(evaluation: Evaluation, checkpoint: Checkpoint) -> Identity:
    """Returns the identity: that of the exact probabilities, with another stage."""
    return replace(exact.identity(evaluation, checkpoint), stage="forks")


def obtain(store: Store, evaluation: Evaluation, checkpoint: Checkpoint) -> Artifact:
    """Returns the stored probabilities at the forks of each problem, computing them if needed.

    Raises ValueError for a decoder that changes the model's distribution by more than a
    temperature, and as `probabilities` does.
    """
    exact.require_plain_decoder(evaluation.decoder)

    def make(folder: Path) -> None:
        store.whole(checkpoint.path)
        result = probabilities(evaluation, checkpoint)
        nodes = [asdict(node) for node in result.nodes]
        text = json.dumps({"p": result.p.tolist(), "q": result.q.tolist(), "nodes": nodes})
        (folder / FORKS).write_text(text, encoding="utf-8")

    return store.obtain(identity(evaluation, checkpoint), make)


def read(artifact: Artifact) -> ForkProbabilities:
    lists = ("branches", "valid", "chances")
    with artifact.reading(FORKS) as path:
        content = json.loads(path.read_text(encoding="utf-8"))
        nodes = tuple(
            ForkNode(**node | {name: tuple(node[name]) for name in lists})
            for node in content["nodes"]
        )
        return ForkProbabilities(np.asarray(content["p"]), np.asarray(content["q"]), nodes)


def probabilities(evaluation: Evaluation, checkpoint: Checkpoint) -> ForkProbabilities:
    """Computes the probabilities at the forks of every problem.

    Raises ValueError if the task cannot list every correct response or does not know its forks,
    UserError if the tokenizer encodes two branches of a fork with the same tokens.
    """
    task, problems = evaluation.task, evaluation.problems
    if not applies(task, problems):
        raise ValueError(f"{task.config.kind} does not list every correct response with its forks")
    model, own = exact.load(checkpoint, evaluation.decoder)
    trees = [_tree(task, problem, own) for problem in problems]
    asked = [problem.prompt for problem in evaluation.asked_problems]
    heads = [prompt_ids(own.tokenizer, text, evaluation.prompt) for text in asked]
    steps = _steps(model, heads, trees, evaluation.decoder.temperature)
    p, q, nodes = [], [], []
    for problem, tree in enumerate(trees):
        logs, steps = steps[: len(tree.steps)], steps[len(tree.steps) :]
        step_logs = dict(zip(tree.steps, logs.tolist(), strict=True))
        correct, right_at_forks, tree_nodes = tree.evaluate(problem, step_logs)
        p.append(correct)
        q.append(right_at_forks)
        nodes += tree_nodes
    return ForkProbabilities(np.array(p), np.array(q), tuple(nodes))


def _tree(task: Task, problem: Problem, own: OwnTokenizer) -> ForkTree:
    solutions = []
    for trace in task.solutions(problem):
        forks = task.forks(problem, trace.text)
        if forks is None:
            raise ValueError(f"the task does not know the forks of {trace.text!r}, {problem.id}")
        solutions.append((trace.text, forks))
    placed = cache(partial(ids_with_offsets, own.tokenizer))
    return ForkTree.from_solutions(solutions, placed, own.ends)


def _steps(
    model: PreTrainedModel,
    heads: Sequence[list[int]],
    trees: Sequence[ForkTree],
    temperature: float,
) -> Floats:
    """Returns the log-probability of every step of every tree, in the order of the trees."""
    from forkdiv.models.loading import token_logprobs

    sequences: list[list[int]] = []
    targets = []
    for head, tree in zip(heads, trees, strict=True):
        sequence_of: dict[tuple[int, ...], int] = {}  # for each path a sequence with that prefix
        for path in tree.sequences:
            sequence_of |= {path[:i]: len(sequences) for i in range(len(path) + 1)}
            sequences.append([*head, *path])
        targets += [
            (sequence_of[step[:-1]], len(head) + len(step) - 1, step[-1]) for step in tree.steps
        ]
    return token_logprobs(model, sequences, targets, [temperature])[:, 0]
